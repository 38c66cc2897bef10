/* Descriptors: dup in all forms, shared offsets, flags, the lowest number, limits, close_range.
 */
#include "guest.h"

int main(void) {
    char text[16] = "";
    write_file("file", "0123456789", 10, 0644);
    int fd = MUST(open("file", O_RDWR));
    V(fd);
    int two = MUST(dup(fd));
    MUST(lseek(fd, 4, SEEK_SET));
    V(lseek(two, 0, SEEK_CUR));
    int other = MUST(open("file", O_RDONLY));
    V(lseek(other, 0, SEEK_CUR));
    IN_CHILD("child moves it on", V(read(fd, text, 3)));
    V(lseek(fd, 0, SEEK_CUR));
    MUST(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK));
    V((fcntl(two, F_GETFL) & (O_APPEND | O_NONBLOCK)) == (O_APPEND | O_NONBLOCK));
    V((fcntl(other, F_GETFL) & O_APPEND));
    MUST(fcntl(fd, F_SETFD, FD_CLOEXEC));
    V(fcntl(fd, F_GETFD));
    V(fcntl(two, F_GETFD));
    V(dup2(fd, 20));
    V(fcntl(20, F_GETFD));
    V(dup2(fd, fd));
    E(dup2(999, 21));
    E(dup2(fd, -1));
    E(dup2(fd, 1 << 30));
    V(dup3(fd, 22, O_CLOEXEC));
    V(fcntl(22, F_GETFD));
    E(dup3(fd, fd, 0));
    E(dup3(fd, 23, 1));
    V(fcntl(fd, F_DUPFD, 20));
    V(fcntl(fd, F_DUPFD_CLOEXEC, 30));
    V(fcntl(30, F_GETFD));
    E(fcntl(fd, F_DUPFD, -1));
    E(fcntl(999, F_GETFD));
    E(fcntl(fd, 12345));
    close(5);
    close(3);
    V(open("file", O_RDONLY));
    V(dup(fd == 3 ? two : fd));
    E(syscall(SYS_close_range, 20, 30, 0));
    E(fcntl(22, F_GETFD));
    V(fcntl(1, F_GETFD));
    E(syscall(SYS_close_range, 30, 20, 0));
    E(syscall(SYS_close_range, 20, 30, 0x100));
    MUST(dup2(1, 40));
    E(syscall(SYS_close_range, 40, 50, 4)); /* CLOSE_RANGE_CLOEXEC */
    V(fcntl(40, F_GETFD));

    struct rlimit limit = {16, 64};
    IN_CHILD("RLIMIT_NOFILE", setrlimit(RLIMIT_NOFILE, &limit); int n = 0;
             while (open("/dev/null", O_RDONLY) >= 0) n++; printf("%s\n", errno_name(errno));
             E(dup(1)); E(dup2(1, 16)); V(dup2(1, 15)); E(fcntl(1, F_DUPFD, 16)); int p[2];
             E(pipe(p)); V(fcntl(40, F_GETFD)); struct pollfd many[100]; E(poll(many, 100, 0)));
    /* What is closed twice, and the same number again. */
    int a = MUST(open("file", O_RDONLY));
    E(close(a));
    E(close(a));
    IS(open("file", O_RDONLY) == a);
    return 0;
}
