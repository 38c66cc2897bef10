/* Stopping and continuing: who sees it, what is thrown away, handlers of SIGCONT, kill while stopped.
 */
#include "guest.h"

static void on_cont(int sig) {
    (void)sig;
    note("handler of SIGCONT\n");
}

static volatile sig_atomic_t handled;

static void on_usr(int sig) {
    handled++;
    if (sig == SIGTSTP)
        note("handler of SIGTSTP\n");
}

static void *stopper(void *arg) {
    raise(SIGSTOP);
    return arg;
}

static void stopped(pid_t child) {
    int status;
    MUST(waitpid(child, &status, WUNTRACED));
    show_status("child", status);
}

static void continued(pid_t child) {
    int status;
    MUST(waitpid(child, &status, WCONTINUED));
    show_status("child", status);
}

int main(void) {
    int status, gate[2];
    MUST(pipe(gate));
    int signals[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
    for (int i = 0; i < 4; i++) {
        pid_t child = MUST(fork());
        if (!child) {
            handle(SIGCONT, on_cont, 0);
            setpgid(0, 0); /* not orphaned: its parent is in another group */
            raise(signals[i]);
            _exit(i);
        }
        stopped(child);
        kill(child, SIGCONT);
        reap("child", child);
    }

    /* Signals sent to a stopped process wait; SIGKILL does not. */
    pid_t child = MUST(fork());
    if (!child) {
        handle(SIGUSR1, on_usr, 0);
        raise(SIGSTOP);
        hear(gate[0]);
        printf("signals handled: %d\n", handled);
        raise(SIGSTOP);
        _exit(0);
    }
    stopped(child);
    kill(child, SIGUSR1);
    kill(child, SIGSTOP); /* already */
    V(waitpid(child, &status, WUNTRACED | WNOHANG));
    kill(child, SIGCONT);
    continued(child);
    tell(gate[1]);
    stopped(child);
    kill(child, SIGKILL);
    reap("child", child);

    /* SIGTERM kills once continued. */
    child = MUST(fork());
    if (!child) {
        raise(SIGSTOP);
        _exit(0);
    }
    stopped(child);
    kill(child, SIGTERM);
    V(waitpid(child, &status, WNOHANG));
    kill(child, SIGCONT);
    reap("child", child);

    /* SIGCONT throws pending stops away, and a stop pending SIGCONT. */
    sigset_t set = set_of(SIGTSTP), pending;
    sigaddset(&set, SIGCONT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    handle(SIGTSTP, on_usr, 0);
    handle(SIGCONT, on_cont, 0);
    raise(SIGTSTP);
    sigpending(&pending);
    printf("pending TSTP %d CONT %d\n", sigismember(&pending, SIGTSTP),
           sigismember(&pending, SIGCONT));
    raise(SIGCONT);
    sigpending(&pending);
    printf("pending TSTP %d CONT %d\n", sigismember(&pending, SIGTSTP),
           sigismember(&pending, SIGCONT));
    raise(SIGTSTP);
    sigpending(&pending);
    printf("pending TSTP %d CONT %d\n", sigismember(&pending, SIGTSTP),
           sigismember(&pending, SIGCONT));
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    signal(SIGCONT, SIG_DFL);

    /* SIGCONT continues even where it is blocked or ignored. */
    child = MUST(fork());
    if (!child) {
        signal(SIGCONT, SIG_IGN);
        raise(SIGSTOP);
        sigset_t cont = set_of(SIGCONT);
        signal(SIGCONT, SIG_DFL);
        sigprocmask(SIG_BLOCK, &cont, NULL);
        raise(SIGSTOP);
        _exit(8);
    }
    stopped(child);
    kill(child, SIGCONT);
    stopped(child);
    kill(child, SIGCONT);
    reap("child", child);

    /* All threads of a process stop. */
    child = MUST(fork());
    if (!child) {
        pthread_t t;
        pthread_create(&t, NULL, stopper, NULL);
        pthread_join(t, NULL);
        _exit(9);
    }
    stopped(child);
    sleep_ms(20);
    V(waitpid(child, &status, WNOHANG));
    kill(child, SIGCONT);
    reap("child", child);
    return 0;
}
