#include "emu_half.h"
