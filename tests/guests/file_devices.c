/* The devices: null, zero, full, random, urandom, tty without a terminal.
 */
#include "guest.h"
#include <sys/ioctl.h>
#include <termios.h>

int main(void) {
    char text[64];
    memset(text, 'x', sizeof text);
    int null = MUST(open("/dev/null", O_RDWR)), zero = MUST(open("/dev/zero", O_RDWR)),
        full = MUST(open("/dev/full", O_RDWR)), random = MUST(open("/dev/random", O_RDWR)),
        urandom = MUST(open("/dev/urandom", O_RDONLY));
    V(read(null, text, 10));
    V(write(null, text, 10));
    V(lseek(null, 5, SEEK_SET));
    V(read(zero, text, 10));
    printf("%d %d %c\n", text[0], text[9], text[10]);
    V(write(zero, text, 10));
    V(read(full, text, 20));
    printf("%d %c\n", text[19], text[20]);
    E(write(full, text, 10));
    V(read(random, text, 32));
    int distinct = 0;
    for (int i = 1; i < 32; i++)
        distinct += text[i] != text[0];
    IS(distinct > 10);
    V(read(urandom, text, 32));
    V(write(random, text, 10));
    E(ftruncate(null, 0));
    E(open("/dev/null", O_RDONLY | O_DIRECTORY));
    E(open("/dev/null", O_WRONLY | O_TRUNC | O_CREAT, 0644));
    struct termios t;
    E(tcgetattr(null, &t));
    E(tcgetattr(1, &t));
    V(isatty(0));
    struct winsize w;
    E(ioctl(1, TIOCGWINSZ, &w));
    E(ioctl(999, TIOCGWINSZ, &w));
    E(ioctl(null, 0x12345678, 0));
    IN_CHILD("no terminal", setsid(); E(open("/dev/tty", O_RDWR)));
    char *z = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    IS(z != MAP_FAILED && z[100] == 0);
    z[100] = 1;
    z = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, zero, 0);
    IS(z != MAP_FAILED);
    IN_CHILD("shared zero", z[0] = 77);
    printf("%d\n", z[0]);
    struct stat st;
    MUST(stat("/dev/stdin", &st));
    printf("stdin is a pipe %d\n", S_ISFIFO(st.st_mode));
    MUST(stat("/dev/fd/1", &st));
    MUST(stat("/dev/tty", &st));
    printf("tty %o\n", st.st_mode & (S_IFMT | 0666));
    return 0;
}
