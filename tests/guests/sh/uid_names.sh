# Who am I.
id -u; id -g; [ "$(id -un)" = "$(whoami)" ] && echo consistent
test -w / && echo may write
