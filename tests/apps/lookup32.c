/*
 * getsockopt of a 32-bit process, without a library: none for 32 bits need be installed.
 *
 * Standard input is the socket; the option's number and the buffer come from descriptor 3, the result (0 or a negative errno),
 * the length and the buffer go to standard output.
 */

enum { SYS_READ = 3, SYS_WRITE = 4, SYS_EXIT = 1, SYS_GETSOCKOPT = 365 };
enum { SOCKET = 0, ANSWER = 1, QUESTION = 3, LEVEL_IP = 0 };

static struct {
	int option;
	char buffer[58];
} question;

static struct {
	int result;
	int length;
	char buffer[58];
} answer;

static int call(int number, int one, int two, int three, const void *four, const void *five)
{
	int result;

	asm volatile("int $0x80"
		     : "=a"(result)
		     : "a"(number), "b"(one), "c"(two), "d"(three), "S"(four), "D"(five)
		     : "memory");
	return result;
}

void _start(void)
{
	answer.length = call(SYS_READ, QUESTION, (int)&question, sizeof(question), 0, 0) - (int)sizeof(question.option);
	for (int at = 0; at < answer.length; at++)
		answer.buffer[at] = question.buffer[at];
	answer.result = call(SYS_GETSOCKOPT, SOCKET, LEVEL_IP, question.option, answer.buffer, &answer.length);
	call(SYS_WRITE, ANSWER, (int)&answer, sizeof(answer), 0, 0);
	call(SYS_EXIT, 0, 0, 0, 0, 0);
}
