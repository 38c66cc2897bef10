# Who am I.
id -u; id -g; [ "$(id -un)" = "$(whoami)" ] && echo consistent
