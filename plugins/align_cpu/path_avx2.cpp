#define KSNET_PATH kAvx2
#define KSNET_WIDTH 8
#define KSNET_PIXELS 6
#include "path_code.h"
