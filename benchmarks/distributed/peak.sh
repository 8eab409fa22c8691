#!/bin/sh
# Runs a program and keeps the most memory that it held, in MiB, in FILE.peak.RANK.
# Usage: peak.sh FILE PROGRAM [ARGUMENT ...]
file=$1.peak.${OMPI_COMM_WORLD_RANK:-0}
shift
"$@" &
pid=$!
peak=0
while held=$(awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$pid/status" 2> /dev/null) && [ -n "$held" ]; do
    peak=$held
    sleep 0.05
done
wait $pid
code=$?
echo "$peak" > "$file"
exit $code
