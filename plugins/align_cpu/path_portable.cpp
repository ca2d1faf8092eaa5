#define KSNET_PATH kPortable
#define KSNET_WIDTH 4
#define KSNET_PIXELS 4
#include "path_code.h"
