/* Five dining philosophers, each of whom takes the left fork first.
 *
 * fails: deadlock
 * threads: 5
 * preemptions: 4
 */
#include <pthread.h>
#include <stdio.h>

#define PHILOSOPHERS 5

static pthread_mutex_t forks[PHILOSOPHERS];
static int meals[PHILOSOPHERS];

static void *philosopher(void *arg) {
    long left = (long)arg, right = (left + 1) % PHILOSOPHERS;
#ifdef FIXED
    long first = left < right ? left : right, second = left < right ? right : left;
#else
    long first = left, second = right;
#endif
    pthread_mutex_lock(&forks[first]);
    pthread_mutex_lock(&forks[second]);
    meals[left]++;
    pthread_mutex_unlock(&forks[second]);
    pthread_mutex_unlock(&forks[first]);
    return NULL;
}

int main(void) {
    pthread_t threads[PHILOSOPHERS];
    int eaten = 0;
    for (int i = 0; i < PHILOSOPHERS; i++)
        pthread_mutex_init(&forks[i], NULL);
    for (long i = 0; i < PHILOSOPHERS; i++)
        pthread_create(&threads[i], NULL, philosopher, (void *)i);
    for (int i = 0; i < PHILOSOPHERS; i++) {
        pthread_join(threads[i], NULL);
        eaten += meals[i];
    }
    printf("%d meals\n", eaten);
    return 0;
}
