/* Three hundred nested processes, each the child of the one before, all alive at once.
 * traps: many
 */
#include "guest.h"

#define DEPTH 300

int main(void) {
    int out[2];
    MUST(pipe(out));
    pid_t top = MUST(fork());
    if (top == 0) {
        for (int depth = 1;; depth++) {
            if (depth == DEPTH) {
                MUST(write(out[1], "bottom", 6));
                _exit(1);
            }
            pid_t child = MUST(fork());
            if (child) {
                int status;
                MUST(waitpid(child, &status, 0));
                _exit(WEXITSTATUS(status) == (DEPTH - depth) % 251 ? (DEPTH - depth + 1) % 251
                                                                   : 255);
            }
        }
    }
    char text[8] = "";
    MUST(read(out[0], text, 6));
    printf("the last says: %s\n", text);
    reap("the first", top);
    printf("expected %d\n", DEPTH % 251);
    return 0;
}
