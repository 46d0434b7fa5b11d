/* A driver's management library with one GPU, scripted by the file that $FAKE_NVML names: "name value" lines.
   A name that is not there is not supported, as on Orin; a value of "error N" is returned as NVML's error N. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6 };

static int look_up(const char *name, unsigned long long *value) {
    FILE *script = fopen(getenv("FAKE_NVML"), "r");
    char line[200], found[100], word[60];
    int code = NOT_SUPPORTED;
    while (script && fgets(line, sizeof line, script))
        if (sscanf(line, "%99s %59s", found, word) == 2 && strcmp(found, name) == 0) {
            code = SUCCESS;
            if (strcmp(word, "error") == 0)
                sscanf(line, "%*s %*s %d", &code);
            else
                *value = strtoull(word, NULL, 10);
        }
    if (script)
        fclose(script);
    return code;
}

static int tell(const char *name, unsigned *out) {
    unsigned long long value = 0;
    int code = look_up(name, &value);
    *out = (unsigned)value;
    return code;
}

int nvmlInitWithFlags(unsigned flags) { unsigned ignored; return tell("init", &ignored) == NOT_SUPPORTED ? 0 : 9; }
int nvmlShutdown(void) { return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)1; return index ? INVALID : 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    *device = (void *)1;
    return strcmp(uuid, "GPU-11111111-2222-3333-4444-555555555555") ? NOT_FOUND : SUCCESS;
}
int nvmlDeviceGetName(void *device, char *name, unsigned length) {
    snprintf(name, length, "%s", getenv("FAKE_NVML_NAME"));
    return SUCCESS;
}
int nvmlDeviceGetUtilizationRates(void *device, unsigned *rates) { rates[1] = 5; return tell("utilisation", rates); }
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory) {
    int code = look_up("memory_total", &memory[0]);
    memory[1] = 0;
    return code ? code : look_up("memory_used", &memory[2]);
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *out) { return tell("temperature", out); }
int nvmlDeviceGetTemperatureThreshold(void *device, int kind, unsigned *out) { return tell("slowdown", out); }
int nvmlDeviceGetPowerUsage(void *device, unsigned *out) { return tell("power_mw", out); }
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *out) { return tell("power_limit_mw", out); }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *out) { return look_up("energy_mj", out); }
int nvmlDeviceGetClockInfo(void *device, int kind, unsigned *out) { return tell("clock_mhz", out); }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *out) {
    return look_up("throttle_reasons", out);
}
