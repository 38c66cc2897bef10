# A pipeline ended early by its reader.
yes 2>/dev/null | head -n 1; seq 1 1000000 2>/dev/null | head -n 2 | tail -n 1
(sh -c 'yes; echo "not reached"' | head -n 1) 2>/dev/null
cat /dev/zero | head -c 1000000 | wc -c
