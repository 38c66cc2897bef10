# Time passes and is formatted.
date -u -d @0 '+%Y-%m-%d %H:%M:%S %a'; date -u -d @1234567890 +%s
a=$(date +%s); sleep 1; b=$(date +%s); [ $((b - a)) -ge 1 ] && echo a second passed
[ $((b - a)) -lt 60 ] && echo not a minute
TZ=UTC-2 date -d @0 +%H
