"""What a command's exit code says. docs/reference/exit-codes.md is made from this."""

HELD_CODE = 3
WAITED = 4

EXIT_CODES = {
    0: "fine",
    1: "an error, or what was checked is not right",
    2: "the command is not understood",
    HELD_CODE: "done, but some days are held by a gate, or have no facts to export",
    WAITED: "what it waits for did not come free in time",
}
