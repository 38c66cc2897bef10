# tar and gzip there and back.
mkdir -p src/sub; echo one >src/1; head -c 100000 /dev/zero >src/zeros; ln -s 1 src/link; ln src/1 src/hard; chmod 755 src/1
tar cf a.tar src; tar tf a.tar | sort; mkdir out; tar xf a.tar -C out; diff -r src out/src && echo same
ls -l out/src | awk 'NR > 1 { print $1, $2, $NF }' | sort
gzip -k9 src/zeros; gzip -dc src/zeros.gz | cmp - src/zeros && echo unzipped; rm src/zeros.gz
tar czf a.tgz src; tar tzf a.tgz | wc -l; gzip -t a.tgz && echo sound
echo garbage >bad.gz; gzip -t bad.gz 2>/dev/null || echo "bad $?"
tar cf - src | (cd out && tar xf -) && echo piped
