# Twenty nested shells.
cat >nest.sh <<'END'
if [ "$1" -eq 0 ]; then echo bottom; exit 3; fi
sh ./nest.sh $(($1 - 1)); s=$?
[ $1 = 20 ] && echo "top got $s"
exit $s
END
sh ./nest.sh 20; echo $?
