#ifndef CALC_H
#define CALC_H

#include <stddef.h>

double vector_sum(const double *values, size_t count);
double vector_dot(const double *left, const double *right, size_t count);
size_t text_words(const char *text);
double stats_mean(const double *values, size_t count);
double stats_variance(const double *values, size_t count);

#endif
