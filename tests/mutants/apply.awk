# Applies a deliberate bug to the sources below the working directory:
#
#     awk -f apply.awk NAME.bug
#
# After its first line, which describes the bug, a file NAME.bug holds edits. Each is a line
# `--- PATH`, the old lines as they are in that file, a line `+++`, and the new lines. The old lines
# must occur exactly once. There are no line numbers and no context, so an edit fits until its old
# lines change. To rename an identifier, run the same sed command over src/ and these files.

/^--- / { replace(); path = substr($0, 5); is_new = 0; next }
$0 == "+++" { is_new = 1; next }
path == "" { next }
is_new { new_lines = new_lines $0 "\n"; next }
{ old_lines = old_lines $0 "\n" }
END { replace(); exit failed }

function replace(    text, line, at) {
    if (path == "") return
    text = "\n"
    while ((getline line < path) > 0) text = text line "\n"
    close(path)
    at = index(text, "\n" old_lines)
    if (at == 0 || index(substr(text, at + 1), "\n" old_lines) > 0) {
        print FILENAME ": the old lines do not occur exactly once in " path > "/dev/stderr"
        failed = 1
    } else {
        ORS = ""
        print substr(text, 2, at - 1) new_lines substr(text, at + 1 + length(old_lines)) > path
        ORS = "\n"
        close(path)
    }
    path = old_lines = new_lines = ""
}
