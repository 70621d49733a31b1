"""ipvsca killed before, or refused, each single system call that changes something outside its process."""
