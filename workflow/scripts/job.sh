# Sourced by the shell of every job, see `common.smk`.

set -euo pipefail

# A job keeps the terminal as descriptor 3, which fails before its log is open if the caller has closed stderr.
( : >&2 ) || exec 2> /dev/null

# logged LOG COMMAND...: run a command with its output in LOG, and the terminal as descriptor 3. If it fails, show why: the
# line of `python -m spo`, or the end of the log. Whole logs of training have thousands of lines.
logged() {
    local log=$1 code=0
    shift
    "$@" 3>&2 > "$log" 2>&1 || code=$?
    if [ "$code" -ne 0 ]; then
        if tail -n 1 "$log" | grep -q '^spo: '; then
            grep '^spo: ' "$log" >&2
        else
            tail -n 20 "$log" >&2
        fi
    fi
    return "$code"
}
