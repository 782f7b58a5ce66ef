/* Rank 9: judgement, above the public functions of the library and data preparation. */
#ifndef JUDGE_JUDGE_H
#define JUDGE_JUDGE_H

#include "peft_judge.h"
#include "prep/prep.h"

#endif
