# Three hundred short processes one after another, and thirty at once.
i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i + 1)); done; echo $i
i=0; while [ $i -lt 30 ]; do (echo $i >f.$i; exit $i) & i=$((i + 1)); done; wait
cat f.* | sort -n | tr '\n' ' '; echo
