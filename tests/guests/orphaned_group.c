/* A stopped process group that becomes orphaned gets SIGHUP and SIGCONT.
 */
#include "guest.h"

static volatile sig_atomic_t hangups;

static void on_hangup(int sig) {
    (void)sig;
    hangups++;
}

int main(void) {
    int ready[2], out[2], go[2];
    MUST(pipe(ready));
    MUST(pipe(go));
    MUST(pipe(out));
    IN_CHILD(
        "middle", setsid(); pid_t child = MUST(fork()); if (child == 0) {
            setpgid(0, 0);
            handle(SIGHUP, on_hangup, 0);
            tell(ready[1]);
            raise(SIGSTOP);
            hear(go[0]);
            printf("continued, hangups: %d\n", hangups);
            tell(out[1]);
            _exit(0);
        } hear(ready[0]);
        int status; MUST(waitpid(child, &status, WUNTRACED)); show_status("child", status));
    tell(go[1]);
    hear(out[0]);

    /* In an orphaned group the terminal's stop signals are ignored. */
    IN_CHILD("leader", setsid(); raise(SIGTSTP); raise(SIGTTIN); raise(SIGTTOU);
             printf("not stopped\n"));
    return 0;
}
