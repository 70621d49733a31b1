"""Print /etc/ipvsca/ipvsca.toml as the package brings it: every setting, commented out, with its default."""

from __future__ import annotations

from textwrap import TextWrapper

from tools.facts import Key, keys

_HEAD = """\
# The settings of ipvsca, see ipvsca.toml(5). Each is commented out and shows its default.
#
# Set at least `trusted`: the default believes every private address.
# Where the service runs, `systemctl reload ipvsca` is its way to `ipvsca load`.
"""


def _entry(key: Key) -> str:
    told = (
        f"{key.help[0].upper()}{key.help[1:]}.",
        f"Accepts: {key.accepts}.",
        f"Takes effect: {key.effect}.",
    )
    comment = TextWrapper(100, initial_indent="# ", subsequent_indent="#   ", break_long_words=False)
    return "\n".join([*map(comment.fill, told), f"#{key.name} = {key.default}"])


print(_HEAD)
print("\n\n".join(map(_entry, keys())))
