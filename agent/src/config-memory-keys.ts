// Rows of the settings table for memory. Part of config-keys.ts, kept apart for length.
import { setting } from '@shoal/protocol/settings.ts'
import { downloadBufferMb, gcThreshold, maxMemoryGb, modelCacheGb, noPreload } from './config-checks.ts'

export const MEMORY_SETTINGS = {
  'memory_management.max_memory_usage_gb': setting({
    kind: 'number',
    schema: maxMemoryGb,
    initial: 0,
    env: ['SHOAL_MAX_MEMORY_GB', 'ENHANCED_MODEL_MAX_MEMORY_GB'],
    about:
      'Memory the agent is to stay below, in gigabytes (1,000,000,000 bytes); buffers get larger or smaller with it. A lower limit of the container counts instead. 0: about 0.35, less where the container or the host has less.',
  }),
  'memory_management.download_buffer_size_mb': setting({
    kind: 'number',
    schema: downloadBufferMb,
    initial: 0,
    env: [],
    about:
      'Memory for chunks on their way, over all downloads, in megabytes (1,000,000 bytes). 0: a share of the memory there may be.',
  }),
  'memory_management.gc_threshold': setting({
    kind: 'number',
    schema: gcThreshold,
    initial: 0.8,
    env: [],
    about:
      'Share of the memory limit above which garbage is collected at once, free buffers are given up, and downloads and clients get the smallest buffers.',
  }),
  'memory_management.model_cache_size_gb': setting({
    kind: 'number',
    schema: modelCacheGb,
    initial: 0,
    env: [],
    about:
      'Only 0: the agent keeps no models in memory of its own. The kernel keeps files that are read often in its page cache, which grows and shrinks with what is free.',
  }),
  'memory_management.preload_frequently_used': setting({
    kind: 'boolean',
    schema: noPreload,
    initial: false,
    env: [],
    about:
      'Only false: what is read often stays in the page cache of the kernel by itself, and reading other models ahead would drive it out.',
  }),
} as const
