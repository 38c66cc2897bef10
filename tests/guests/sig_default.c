/* The default action of every signal.
 */
#include "guest.h"

int main(void) {
    for (int sig = 1; sig <= 64; sig++) {
        if (sig == 32 || sig == 33)
            continue; /* glibc's own */
        pid_t child = MUST(fork());
        if (!child) {
            signal(sig, SIG_DFL);
            setpgid(0, 0);
            setsid();
            kill(getpid(), sig);
            _exit(0);
        }
        int status;
        MUST(waitpid(child, &status, WUNTRACED));
        show_status(signal_name(sig), status);
        if (WIFSTOPPED(status)) {
            kill(child, SIGKILL);
            MUST(waitpid(child, &status, 0));
        }
    }
    return 0;
}
