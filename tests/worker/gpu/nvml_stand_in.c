/* A stand-in for NVIDIA's driver library with two cards: one that has everything, and a plain one
   that knows neither memory errors nor power. The first one says Xid 79 once; where NVML_FALLS names
   a file, not before there is one, and after it the card tells nothing any more. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
typedef struct { void *device; unsigned long long type, data; unsigned int gpu, compute; } event_t;

enum { OK = 0, NOT_SUPPORTED = 3, TIMEOUT = 10, GPU_IS_LOST = 15 };
static int cards[2];
static int has_spoken, is_heard;
#define IS_PLAIN(device) ((int *)(device) == &cards[1])

int nvmlInitWithFlags(unsigned int flags) { return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
  *device = &cards[index];
  return OK;
}
int nvmlDeviceGetName(void *device, char *name, unsigned int length) {
  strncpy(name, IS_PLAIN(device) ? "NVIDIA T400" : "NVIDIA L4", length);
  return OK;
}
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length) {
  strncpy(uuid, IS_PLAIN(device) ? "GPU-1" : "GPU-0", length);
  return !IS_PLAIN(device) && has_spoken && getenv("NVML_FALLS") ? GPU_IS_LOST : OK;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
  memory->total = 24000000000ULL, memory->used = 6000000000ULL, memory->free = 18000000000ULL;
  return OK;
}
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *rates) {
  rates->gpu = 87, rates->memory = 10;
  return OK;
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *celsius) {
  *celsius = 61;
  return OK;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
  *milliwatts = 58400;
  return IS_PLAIN(device) ? NOT_SUPPORTED : OK;
}
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned int *milliwatts) {
  *milliwatts = 72000;
  return IS_PLAIN(device) ? NOT_SUPPORTED : OK;
}
int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, unsigned long long *count) {
  *count = 2;
  return IS_PLAIN(device) ? NOT_SUPPORTED : OK;
}
int nvmlEventSetCreate(void **events) {
  *events = &has_spoken;
  return OK;
}
int nvmlDeviceRegisterEvents(void *device, unsigned long long kinds, void *events) {
  is_heard |= !IS_PLAIN(device);
  return IS_PLAIN(device) ? NOT_SUPPORTED : OK;
}
int nvmlEventSetWait_v2(void *events, event_t *event, unsigned int milliseconds) {
  const char *falls = getenv("NVML_FALLS");
  if (has_spoken || !is_heard || (falls && access(falls, F_OK)))
    return TIMEOUT;
  has_spoken = 1;
  event->device = &cards[0], event->type = 8, event->data = 79;
  return OK;
}
