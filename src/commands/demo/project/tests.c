#include "calc.h"

#include <math.h>
#include <stdio.h>

static int failed, passed;

static void check(const char *name, int good, const char *file, int line)
{
    if (good) {
        passed++;
        printf("  \033[32m✓\033[0m %s\n", name);
    } else {
        failed++;
        printf("  \033[1;31m✗ %s\033[0m\n", name);
        printf("\033[31m%s:%d: error: %s: the check does not hold\033[0m\n", file, line, name);
    }
    fflush(stdout);
}

#define CHECK(name, condition) check(name, condition, __FILE__, __LINE__)

int main(void)
{
    const double values[] = {1, 2, 3, 4};
    printf("\033[1mvector\033[0m\n");
    CHECK("the sum of nothing is 0", vector_sum(values, 0) == 0);
    CHECK("the sum of 1..4 is 10", vector_sum(values, 4) == 10);
    CHECK("a dot product", vector_dot(values, values, 4) == 30);
    printf("\033[1mtext\033[0m\n");
    CHECK("no words", text_words("") == 0);
    CHECK("three words", text_words("  one two\tthree ") == 3);
    printf("\033[1mstats\033[0m\n");
    CHECK("the mean of 1..4 is 2.5", stats_mean(values, 4) == 2.5);
    CHECK("the variance of 1..4 is 1.25", fabs(stats_variance(values, 4) - 1.25) < 1e-9);
    /* MORE CHECKS */
    printf("\n%s%d passed, %d failed\033[0m\n", failed ? "\033[1;31m" : "\033[1;32m", passed, failed);
    return failed != 0;
}
