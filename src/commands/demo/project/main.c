#include "calc.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    double values[64];
    size_t count = 0;
    for (int i = 1; i < argc && count < 64; i++)
        values[count++] = atof(argv[i]);
    printf("sum %g  mean %g  variance %g\n", vector_sum(values, count), stats_mean(values, count),
           stats_variance(values, count));
    return 0;
}
