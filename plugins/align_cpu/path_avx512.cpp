#define KSNET_PATH kAvx512
#define KSNET_WIDTH 16
#define KSNET_PIXELS 12
#include "path_code.h"
