/* signalfd belongs to whoever reads it: threads, forked children, epoll; timers and faults as
 * records.
 */
#include "guest.h"
#include <sys/epoll.h>
#include <sys/signalfd.h>

static int fd;

static void show(const struct signalfd_siginfo *i) {
    printf("signal %u errno %d code %d int %d overrun %u status %d\n", i->ssi_signo, i->ssi_errno,
           i->ssi_code, i->ssi_int, i->ssi_overrun, i->ssi_status);
}

static void *reader(void *arg) {
    struct signalfd_siginfo info;
    tell(*(int *)arg);
    MUST(read(fd, &info, sizeof info));
    show(&info);
    return NULL;
}

int main(void) {
    sigset_t set = set_of(SIGUSR1);
    sigaddset(&set, SIGALRM), sigaddset(&set, SIGRTMIN + 1), sigaddset(&set, SIGKILL);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    fd = MUST(signalfd(-1, &set, SFD_CLOEXEC));
    struct signalfd_siginfo info;

    /* A signal that is sent to one thread can be read by that thread only. */
    pthread_t thread;
    int ready[2];
    MUST(pipe(ready));
    pthread_create(&thread, NULL, reader, &ready[1]);
    hear(ready[0]);
    pthread_kill(thread, SIGUSR1);
    pthread_join(thread, NULL);
    MUST(fcntl(fd, F_SETFL, O_NONBLOCK));
    E(read(fd, &info, sizeof info));
    raise(SIGUSR1);
    struct pollfd p = {fd, POLLIN, 0};
    V(poll(&p, 1, 0));
    V(read(fd, &info, sizeof info));
    show(&info);

    /* A child reads its own, not its parent's. */
    int ep = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN};
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
    kill(getpid(), SIGUSR1);
    V(epoll_wait(ep, &event, 1, 0));
    IN_CHILD("child", E(read(fd, &info, sizeof info)); kill(getpid(), SIGALRM);
             V(read(fd, &info, sizeof info)); show(&info));
    V(read(fd, &info, sizeof info));
    show(&info);
    V(epoll_wait(ep, &event, 1, 0));

    /* Blocked in epoll_wait until a timer signals. */
    struct itimerval soon = {.it_value.tv_usec = 10000};
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    V(epoll_wait(ep, &event, 1, -1));
    V(read(fd, &info, sizeof info));
    show(&info);
    timer_t timer;
    struct sigevent how = {
        .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = 42};
    MUST(timer_create(CLOCK_MONOTONIC, &how, &timer));
    struct itimerspec when = {.it_value.tv_nsec = 5 * MS};
    MUST(timer_settime(timer, 0, &when, NULL));
    V(epoll_wait(ep, &event, 1, -1));
    V(read(fd, &info, sizeof info));
    show(&info);
    E(read(fd, (void *)1, sizeof info));
    kill(getpid(), SIGUSR1);
    E(read(fd, (void *)1, sizeof info)); /* it is lost */
    E(read(fd, &info, sizeof info));
    /* SIGKILL was asked for, and left out. */
    E(pread(fd, &info, sizeof info, 0));
    E(lseek(fd, 0, SEEK_SET));
    return 0;
}
