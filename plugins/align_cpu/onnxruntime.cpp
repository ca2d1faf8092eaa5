// ksnet::KsAlign as a custom operator of ONNX Runtime, float32, through its C interface alone: one library for all
// versions from 1.17 on, the first whose interface has threads for custom operators.

#include <onnxruntime_c_api.h>

#include <new>

#include "align.h"

namespace {

constexpr uint32_t kApiVersion = 17;
static_assert(ORT_API_VERSION >= kApiVersion, "ONNX Runtime's header must be of version 1.17 or later");

const OrtApi* registered_api = nullptr;  // of the ONNX Runtime that this library was loaded into

constexpr size_t kInputs = 5;  // x, weight, bias, raw and, if there is motion, flow

struct Kernel {
  const OrtApi* api;
  int64_t groups;
  int64_t stride;
  ksnet::AlignWorkspaces* workspaces;
};

// The first status that is not null ends the function that asks.
#define KSNET_RETURN_IF_FAILED(call)                     \
  if (OrtStatus* status_ = (call); status_ != nullptr) { \
    return status_;                                      \
  }

OrtStatus* invalid(const OrtApi* api, const char* sentence) {
  return api->CreateStatus(ORT_INVALID_ARGUMENT, sentence);
}

OrtStatus* sides_of(const OrtApi* api, const OrtValue* value, size_t count, int64_t* sides) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  KSNET_RETURN_IF_FAILED(api->GetTensorTypeAndShape(value, &info));
  size_t found = 0;
  OrtStatus* status = api->GetDimensionsCount(info, &found);
  if (status == nullptr)
    status = found == count ? api->GetDimensions(info, sides, count)
                            : invalid(api, "KsAlign: an input has another number of dimensions");
  api->ReleaseTensorTypeAndShapeInfo(info);
  return status;
}

struct Task {
  const std::function<void(size_t)>* part;
};

void run_part(void* task, size_t index) { (*static_cast<Task*>(task)->part)(index); }

OrtStatus* compute(void* opaque, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<Kernel*>(opaque);
  const OrtApi* api = kernel.api;
  size_t count = 0;
  KSNET_RETURN_IF_FAILED(api->KernelContext_GetInputCount(context, &count));
  const OrtValue* inputs[kInputs] = {};
  void* data[kInputs] = {};
  int64_t sides[kInputs][4] = {};
  constexpr size_t kDimensions[kInputs] = {4, 4, 1, 4, 4};
  for (size_t i = 0; i < kInputs && i < count; ++i) {
    KSNET_RETURN_IF_FAILED(api->KernelContext_GetInput(context, i, &inputs[i]));
    if (inputs[i] == nullptr) continue;
    KSNET_RETURN_IF_FAILED(sides_of(api, inputs[i], kDimensions[i], sides[i]));
    // What is read only is given as mutable by the C interface.
    KSNET_RETURN_IF_FAILED(api->GetTensorMutableData(const_cast<OrtValue*>(inputs[i]), &data[i]));
  }
  for (size_t i = 0; i + 1 < kInputs; ++i)
    if (data[i] == nullptr) return invalid(api, "KsAlign: an input is missing");
  const int64_t (&x)[4] = sides[0];
  const int64_t (&weight)[4] = sides[1];
  const int64_t (&raw)[4] = sides[3];
  const int64_t (&flow)[4] = sides[4];
  const bool fits = weight[1] == x[1] && weight[2] == 3 && weight[3] == 3 && sides[2][0] == weight[0] &&
                    raw[0] == x[0] && raw[1] == 27 * kernel.groups && raw[2] == (x[2] - 1) / kernel.stride + 1 &&
                    raw[3] == (x[3] - 1) / kernel.stride + 1 &&
                    (data[4] == nullptr || (flow[0] == x[0] && flow[1] % 2 == 0 && flow[2] == x[2] && flow[3] == x[3]));
  if (!fits) return invalid(api, "KsAlign: the shapes of the inputs do not fit together");

  const int64_t result[4] = {x[0], weight[0], x[2], x[3]};
  OrtValue* y = nullptr;
  KSNET_RETURN_IF_FAILED(api->KernelContext_GetOutput(context, 0, result, 4, &y));
  void* to = nullptr;
  KSNET_RETURN_IF_FAILED(api->GetTensorMutableData(y, &to));

  const auto number = [](int64_t side) { return static_cast<int32_t>(side); };
  const ksnet::AlignParams params = {data[0],
                                     data[1],
                                     data[2],
                                     data[3],
                                     static_cast<const float*>(data[4]),
                                     to,
                                     number(x[0]),
                                     number(x[1]),
                                     number(weight[0]),
                                     number(x[2]),
                                     number(x[3]),
                                     number(kernel.groups),
                                     number(flow[1] / 2),
                                     number(kernel.stride),
                                     ksnet::AlignType::kFloat32};
  OrtStatus* failed = nullptr;
  const char* wrong = ksnet::align(params, *kernel.workspaces, [&](size_t parts, const auto& part) {
    if (failed != nullptr) return;
    Task task = {&part};
    failed = api->KernelContext_ParallelFor(context, run_part, parts, 0, &task);
  });
  if (failed != nullptr) return failed;
  return wrong == nullptr ? nullptr : api->CreateStatus(ORT_FAIL, wrong);
}

OrtStatus* create(const OrtCustomOp*, const OrtApi* api, const OrtKernelInfo* info, void** made) {
  Kernel kernel = {api, 0, 0, nullptr};
  KSNET_RETURN_IF_FAILED(api->KernelInfoGetAttribute_int64(info, "offset_group", &kernel.groups));
  KSNET_RETURN_IF_FAILED(api->KernelInfoGetAttribute_int64(info, "offset_stride", &kernel.stride));
  if (kernel.groups < 1 || kernel.stride < 1) return invalid(api, "KsAlign: an attribute is below 1");
  kernel.workspaces = ksnet::create_align_workspaces();
  if (kernel.workspaces == nullptr) return api->CreateStatus(ORT_FAIL, "KsAlign: out of memory");
  *made = new (std::nothrow) Kernel(kernel);
  if (*made == nullptr) {
    ksnet::destroy_align_workspaces(kernel.workspaces);
    return api->CreateStatus(ORT_FAIL, "KsAlign: out of memory");
  }
  return nullptr;
}

void destroy(void* opaque) {
  Kernel* kernel = static_cast<Kernel*>(opaque);
  ksnet::destroy_align_workspaces(kernel->workspaces);
  delete kernel;
}

// (batch, out_channels, height, width) where all of them are known; else nothing is said.
OrtStatus* infer_shape(const OrtCustomOp*, OrtShapeInferContext* context) {
  const OrtApi* api = registered_api;
  int64_t sides[2][4] = {};
  for (size_t i = 0; i < 2; ++i) {
    OrtTensorTypeAndShapeInfo* info = nullptr;  // which the context owns
    KSNET_RETURN_IF_FAILED(api->ShapeInferContext_GetInputTypeShape(context, i, &info));
    size_t count = 0;
    KSNET_RETURN_IF_FAILED(api->GetDimensionsCount(info, &count));
    if (count != 4) return nullptr;
    KSNET_RETURN_IF_FAILED(api->GetDimensions(info, sides[i], 4));
  }
  const int64_t result[4] = {sides[0][0], sides[1][0], sides[0][2], sides[0][3]};
  for (const int64_t side : result)
    if (side < 1) return nullptr;
  OrtTensorTypeAndShapeInfo* made = nullptr;
  KSNET_RETURN_IF_FAILED(api->CreateTensorTypeAndShapeInfo(&made));
  OrtStatus* status = api->SetDimensions(made, result, 4);
  if (status == nullptr) status = api->SetTensorElementType(made, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  if (status == nullptr) status = api->ShapeInferContext_SetOutputTypeShape(context, 0, made);
  api->ReleaseTensorTypeAndShapeInfo(made);
  return status;
}

OrtCustomOp operator_of_kernel() {
  OrtCustomOp op = {};
  op.version = kApiVersion;
  op.GetName = [](const OrtCustomOp*) { return "KsAlign"; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return "CPUExecutionProvider"; };
  op.GetInputType = [](const OrtCustomOp*, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; };
  op.GetInputTypeCount = [](const OrtCustomOp*) { return kInputs; };
  op.GetOutputType = [](const OrtCustomOp*, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; };
  op.GetOutputTypeCount = [](const OrtCustomOp*) { return size_t{1}; };
  op.KernelDestroy = destroy;
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t index) {
    return index + 1 == kInputs ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.CreateKernelV2 = create;
  op.KernelComputeV2 = compute;
  op.InferOutputShapeFn = infer_shape;
  op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  op.GetEndVersion = [](const OrtCustomOp*) { return 1; };
  return op;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(kApiVersion);
  if (api == nullptr) return base->GetApi(1)->CreateStatus(ORT_FAIL, "KsAlign needs ONNX Runtime 1.17 or later");
  registered_api = api;
  static const OrtCustomOp op = operator_of_kernel();
  // The options, and sessions made of them, refer to the domain; it lives as long as the library.
  static OrtCustomOpDomain* domain = nullptr;
  if (domain == nullptr) {
    KSNET_RETURN_IF_FAILED(api->CreateCustomOpDomain("ksnet", &domain));
    KSNET_RETURN_IF_FAILED(api->CustomOpDomain_Add(domain, &op));
  }
  return api->AddCustomOpDomain(options, domain);
}
