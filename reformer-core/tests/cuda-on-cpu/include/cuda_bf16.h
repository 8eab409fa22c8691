#include "emu_mma.h"
