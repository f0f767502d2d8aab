/* ${title}

   A trained model as one C99 file, which needs the mathematical library and nothing else.

       cc -std=c99 -O2 -o model ${file} -lm
       ./model                   checks the predictions of built-in samples; the exit status is not 0 if one differs
       ./model samples.csv       prints a label and the probabilities of each line: ${line}

   In another program: compile this file with -DRCDP_NO_MAIN, and declare

       int rcdp_predict(const ${number} *sample, int steps, float *probabilities);
       int rcdp_answer(const ${number} *sample, int steps, float *probabilities, int *answer);
       extern const char *const rcdp_classes[${classes}];

   sample         ${sample}
   steps          ${steps}
   probabilities  gets the probabilities of the ${classes} classes, in the order of rcdp_classes
   answer         gets the number of the class that is answered, which need not be the most probable one
   returns        0; 1 if the number of steps is not accepted; 2 if a result is not finite: check the sample

   ${weights}
   rcdp_predict keeps its values in static memory: one call at a time. For several threads, compile with
   -DRCDP_STORAGE="static __thread", or with -DRCDP_STORAGE= if the stack has room for them. For two models in one
   program, compile each with other names, such as -Drcdp_predict=first_predict -Drcdp_answer=first_answer
   -Drcdp_classes=first_classes. */

#include <math.h>
#include <stddef.h>

#ifndef RCDP_STORAGE
#define RCDP_STORAGE static
#endif
#define RCDP_CLASSES ${classes}
${sizes}

typedef signed char code;
typedef ${column} column;

int rcdp_predict(const ${number} *sample, int steps, float *probabilities);
int rcdp_answer(const ${number} *sample, int steps, float *probabilities, int *answer);

/* The names of the classes in UTF-8. */
extern const char *const rcdp_classes[RCDP_CLASSES];
const char *const rcdp_classes[RCDP_CLASSES] = {
${names}
};

${constants}
${functions}
int rcdp_answer(const ${number} *sample, int steps, float *probabilities, int *answer)
{
    int i;
${memory}
${check}
${body}
    for (i = 0; i < RCDP_CLASSES; i++) {
        probabilities[i] = ${output}[i];
        if (!isfinite(probabilities[i]))
            return 2;
    }
    *answer = 0;
    for (i = 1; i < RCDP_CLASSES; i++)
        *answer = ${decision}[i] > ${decision}[*answer] ? i : *answer;
    return 0;
}

int rcdp_predict(const ${number} *sample, int steps, float *probabilities)
{
    int answer;
    return rcdp_answer(sample, steps, probabilities, &answer);
}

#ifndef RCDP_NO_MAIN
#include <stdio.h>
#include <stdlib.h>

/* Samples for the check, and what the model that this file was made of predicts. */
#define TESTS ${tests}
#define TOLERANCE 1e-5f
${samples}
/* Predicts the built-in samples; returns the number of differing ones. */
static int check(void)
{
    int test, i, differing = 0;
    for (test = 0; test < TESTS; test++) {
        float found[RCDP_CLASSES], largest = 0.0f;
        int failed = rcdp_predict(test_samples + test * TEST_VALUES, test_steps[test], found);
        for (i = 0; i < RCDP_CLASSES && !failed; i++)
            largest = fmaxf(largest, fabsf(found[i] - test_probabilities[test * RCDP_CLASSES + i]));
        failed = failed || largest > TOLERANCE;
        differing += failed;
        printf("sample %d: largest difference %.2g%s\n", test + 1, (double)largest, failed ? ", too large" : "");
    }
    return differing;
}

/* Prints a name for a table with commas. */
static void print_name(const char *name)
{
    putchar('"');
    for (; *name; name++) {
        if (*name == '"')
            putchar('"');
        putchar(*name);
    }
    putchar('"');
}

/* Reads the next number of a line; an empty place is NaN. Returns what ends it: a comma, the line or the file. */
static int read_number(FILE *file, double *number, int *given)
{
    char text[64], *end;
    int length = 0, letter = getc(file);
    while (letter == ' ' || letter == '\t' || letter == '\r')
        letter = getc(file);
    while (letter != EOF && letter != '\n' && letter != ',' && letter != ';') {
        if (length < (int)sizeof text - 1)
            text[length++] = (char)letter;
        letter = getc(file);
    }
    while (length && (text[length - 1] == ' ' || text[length - 1] == '\t' || text[length - 1] == '\r'))
        length--;
    text[length] = '\0';
    *given = length;
    *number = length ? strtod(text, &end) : NAN;
    if (length && *end) {
        fprintf(stderr, "%s is not a number\n", text);
        exit(1);
    }
    return letter;
}

/* Predicts each line of a file; returns whether all were accepted. */
static int predict_lines(FILE *file)
{
    static ${number} sample[RCDP_MAX_VALUES];
    float probabilities[RCDP_CLASSES];
    long line;
    for (line = 1;; line++) {
        int count = 0, given, separator, steps, i, best;
        double number;
        do {
            separator = read_number(file, &number, &given);
            if (!given && !count && separator != ',' && separator != ';')
                break; /* an empty line */
            if (count < RCDP_MAX_VALUES)
                sample[count] = (${number})number;
            count++;
        } while (separator == ',' || separator == ';');
        if (count) {
            steps = count / RCDP_VALUES;
            if (count > RCDP_MAX_VALUES || count % RCDP_VALUES || rcdp_answer(sample, steps, probabilities, &best)) {
                fprintf(stderr, "line %ld: %d numbers, expected ${expected}, whose results are finite\n", line, count);
                return 0;
            }
            print_name(rcdp_classes[best]);
            for (i = 0; i < RCDP_CLASSES; i++)
                printf(",%.9g", (double)probabilities[i]);
            putchar('\n');
        }
        if (separator == EOF)
            return 1;
    }
}

int main(int argc, char **argv)
{
    FILE *file;
    int accepted;
    if (argc == 1)
        return check() ? 1 : 0;
    file = argc == 2 ? fopen(argv[1], "r") : NULL;
    if (!file) {
        fprintf(stderr, "usage: %s [samples.csv]\n", argv[0]);
        return 2;
    }
    accepted = predict_lines(file);
    fclose(file);
    return accepted ? 0 : 1;
}
#endif
