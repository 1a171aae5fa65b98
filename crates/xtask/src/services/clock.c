/* Preloaded into a program: its wall clock is off by the milliseconds in WRONG_CLOCK_MS. The
 * monotonic clock stays right, so that what waits for a time to pass waits as long as it should. */

#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t ahead_ms;

__attribute__((constructor)) static void read_offset(void)
{
    const char *text = getenv("WRONG_CLOCK_MS");

    ahead_ms = text ? strtoll(text, NULL, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);

    if (result == 0 && clock == CLOCK_REALTIME) {
        int64_t nanoseconds = now->tv_nsec + ahead_ms % 1000 * 1000000;

        now->tv_sec += ahead_ms / 1000;
        if (nanoseconds < 0) {
            now->tv_sec -= 1;
            nanoseconds += 1000000000;
        } else if (nanoseconds >= 1000000000) {
            now->tv_sec += 1;
            nanoseconds -= 1000000000;
        }
        now->tv_nsec = nanoseconds;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec time;
    int result = clock_gettime(CLOCK_REALTIME, &time);

    (void)zone;
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return result;
}
