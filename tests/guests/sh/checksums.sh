# md5sum, sha1sum, sha256sum, cksum, base64, od, hexdump.
printf 'hello\n' >f; md5sum f; sha1sum f; sha256sum f; cksum f; base64 f; base64 f | base64 -d
od -c f; od -An -tx1 f; seq 1 3000 | sha512sum | cut -c1-20
