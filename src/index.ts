/** Lockstep's one public door. What is not named here is not part of the interface. */
import './runtime/orthogonal.js'

export type { Communicator, ReduceOp } from './collectives/communicator.js'
export { PeerFailedError } from './collectives/failures.js'
export type { Precision } from './compiler/precision.js'
export { UntraceableError } from './compiler/recorder.js'
export { DataLoader, type DataLoaderOptions, type DataLoaderState } from './data/data-loader.js'
export type { Batch, Dataset, NdArray, Sampler } from './data/dataset.js'
export { generateDigits } from './data/digits.js'
export { DistributedSampler, type DistributedSamplerOptions } from './data/distributed-sampler.js'
export { EvaluationSampler } from './data/evaluation-sampler.js'
export { readIdx } from './data/idx.js'
export type { ImageDataset } from './data/image-dataset.js'
export { LockstepError } from './errors.js'
export { CNN_PLAN, cnn } from './models/cnn.js'
export { GPT_PLAN, type GptOptions, gpt, gptPlan } from './models/gpt.js'
export { MLP_PLAN, mlp } from './models/mlp.js'
export { residualBlocks, resnet18, resnet50 } from './models/resnet.js'
export { Progress, type ProgressOptions } from './observe/progress.js'
export { formatTable } from './observe/table.js'
export type { BatchInput, BatchInputs } from './runtime/batch.js'
export type { Metric } from './runtime/checkpoint/retention.js'
export type { Ddp } from './runtime/ddp.js'
export type { LoadOptions, SaveOptions } from './runtime/ddp-checkpoint.js'
export type { DdpOptions, EvaluationBatch, EvaluationResult, StepResult } from './runtime/ddp-options.js'
export { loadModel } from './runtime/export-load.js'
export type { ExportOnnxOptions } from './runtime/export-onnx.js'
export type { Predictor, PredictorValue } from './runtime/export-predictor.js'
export { type Flags, readFlags } from './runtime/flags.js'
export type { LocalSteps } from './runtime/local-steps.js'
export type { LossFunction, LossName } from './runtime/losses.js'
export type { Mesh, MeshShape } from './runtime/mesh.js'
export type { FunctionalModel } from './runtime/model.js'
export {
  adagrad,
  adam,
  adamw,
  clipByGlobalNorm,
  clipByValue,
  constant,
  cosine,
  type DecayMask,
  exponentialDecay,
  fromTensorflow,
  type LearningRate,
  lamb,
  linearWarmup,
  lion,
  momentum,
  type Optimizer,
  oneCycle,
  optimizerByName,
  rmsprop,
  type Schedule,
  sgd,
  stepDecay,
  type UpdateArgs,
} from './runtime/optimizers/index.js'
export type { PipelineOptions } from './runtime/pipeline/options.js'
export type { Pipeline, PipelineStepResult } from './runtime/pipeline/pipeline.js'
export type { ScheduleName } from './runtime/pipeline/schedules.js'
export type { PlanSubject } from './runtime/planner/subject.js'
export type { LossScaleOptions } from './runtime/precision/loss-scale.js'
export type { ProfileOptions } from './runtime/profile.js'
export type { SplitPlan } from './runtime/tensor-parallel/plan.js'
export type { HeadsLayer } from './runtime/tensor-parallel/styles.js'
export type { TensorParallel, TensorParallelOptions } from './runtime/tensor-parallel/tensor-parallel.js'
export { init, type World } from './runtime/world.js'
