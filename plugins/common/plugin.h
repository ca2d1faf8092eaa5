// What the operators' TensorRT plugins have in common. An operator describes itself in a struct of static members, and
// Plugin and Creator make of it what TensorRT asks for. Each of them has exactly one attribute, an integer.
//
//   struct Op {
//     static constexpr const char* kName, *kAttribute;       as in the ONNX file
//     static constexpr int kInputs, kOutputs;
//     static constexpr bool is_float(int input);              FLOAT whatever the storage type is
//     using Params = ...;                                     the launcher's struct
//     static const char* problem(int attribute, const nvinfer1::Dims* inputs);    a sentence, or null; sizes below zero
//                                                                                 are not known yet
//     static bool shapes(int attribute, const nvinfer1::DimsExprs* inputs, nvinfer1::DimsExprs* outputs,
//                        nvinfer1::IExprBuilder&);
//     static Params params(int attribute, const nvinfer1::Dims* inputs, StorageType);
//     static void set_pointers(Params&, const void* const* inputs, void* const* outputs, void* workspace);
//     static size_t workspace(const Params&);
//     static cudaError_t run(const Params&, cudaStream_t);
//   };
//
// No exception leaves a method; TensorRT gets -1 or a null pointer. The sentence that says why goes to stderr: the
// logger that setLoggerFinder offers has another layout in TensorRT 11 than in 10, and a library built with the headers
// of one is loaded into the other.
#pragma once

#include <NvInferRuntime.h>

#include <cstdio>
#include <cstring>
#include <new>

#include "storage.h"

namespace ksnet {

constexpr const char* kNamespace = "ksnet";
constexpr const char* kVersion = "1";

inline void report(const char* op, const char* sentence) noexcept {
  std::fprintf(stderr, "[%s] %s: %s\n", kNamespace, op, sentence);
}

inline bool is_storage(nvinfer1::DataType type) {
  return type == nvinfer1::DataType::kFLOAT || type == nvinfer1::DataType::kHALF;
}

template <typename Op>
class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
 public:
  explicit Plugin(int32_t attribute) noexcept : attribute_(attribute) {}

  // IPluginV3
  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override {
    switch (type) {
      case nvinfer1::PluginCapabilityType::kCORE: return static_cast<nvinfer1::IPluginV3OneCore*>(this);
      case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
      case nvinfer1::PluginCapabilityType::kRUNTIME: return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
  }
  nvinfer1::IPluginV3* clone() noexcept override { return new (std::nothrow) Plugin(attribute_); }

  // IPluginV3OneCore
  const char* getPluginName() const noexcept override { return Op::kName; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

  // IPluginV3OneBuild
  int32_t getNbOutputs() const noexcept override { return Op::kOutputs; }

  int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, int32_t inputs,
                          const nvinfer1::DynamicPluginTensorDesc*, int32_t) noexcept override {
    nvinfer1::Dims dims[Op::kInputs];
    for (int i = 0; i < inputs && i < Op::kInputs; ++i) dims[i] = in[i].desc.dims;
    return check(dims, inputs);
  }

  int32_t getOutputDataTypes(nvinfer1::DataType* out, int32_t outputs, const nvinfer1::DataType* in,
                             int32_t inputs) const noexcept override {
    if (inputs != Op::kInputs || outputs != Op::kOutputs || !is_storage(in[0])) {
      report(Op::kName, "the first input must be FP32 or FP16; export the network in one of the two");
      return -1;
    }
    for (int i = 0; i < outputs; ++i) out[i] = in[0];
    return 0;
  }

  int32_t getOutputShapes(const nvinfer1::DimsExprs* in, int32_t inputs, const nvinfer1::DimsExprs*, int32_t,
                          nvinfer1::DimsExprs* out, int32_t, nvinfer1::IExprBuilder& builder) noexcept override {
    nvinfer1::Dims dims[Op::kInputs];
    for (int i = 0; i < inputs && i < Op::kInputs; ++i) dims[i] = known(in[i]);
    if (check(dims, inputs) != 0) return -1;
    return Op::shapes(attribute_, in, out, builder) ? 0 : -1;
  }

  bool supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors, int32_t inputs,
                                 int32_t) noexcept override {
    const nvinfer1::PluginTensorDesc& tensor = tensors[position].desc;
    if (tensor.format != nvinfer1::TensorFormat::kLINEAR) return false;
    if (position == 0) return is_storage(tensor.type);
    const bool is_float = position < inputs && Op::is_float(position);
    return tensor.type == (is_float ? nvinfer1::DataType::kFLOAT : tensors[0].desc.type);
  }

  size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* in, int32_t inputs,
                          const nvinfer1::DynamicPluginTensorDesc*, int32_t) const noexcept override {
    nvinfer1::Dims dims[Op::kInputs];
    for (int i = 0; i < inputs && i < Op::kInputs; ++i) dims[i] = in[i].max;
    return Op::workspace(Op::params(attribute_, dims, storage_type(in[0].desc.type)));
  }

  // IPluginV3OneRuntime
  int32_t onShapeChange(const nvinfer1::PluginTensorDesc* in, int32_t inputs, const nvinfer1::PluginTensorDesc*,
                        int32_t) noexcept override {
    nvinfer1::Dims dims[Op::kInputs];
    for (int i = 0; i < inputs && i < Op::kInputs; ++i) dims[i] = in[i].dims;
    return check(dims, inputs);
  }

  int32_t enqueue(const nvinfer1::PluginTensorDesc* in, const nvinfer1::PluginTensorDesc*, const void* const* inputs,
                  void* const* outputs, void* workspace, cudaStream_t stream) noexcept override {
    nvinfer1::Dims dims[Op::kInputs];
    for (int i = 0; i < Op::kInputs; ++i) dims[i] = in[i].dims;
    auto params = Op::params(attribute_, dims, storage_type(in[0].type));
    Op::set_pointers(params, inputs, outputs, workspace);
    const cudaError_t error = Op::run(params, stream);
    if (error == cudaSuccess) return 0;
    report(Op::kName, cudaGetErrorString(error));
    return -1;
  }

  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override { return clone(); }

  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override { return &serialized_; }

 private:
  // An object belongs to where it lies: its serialised field points into itself.
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;

  static StorageType storage_type(nvinfer1::DataType type) {
    return type == nvinfer1::DataType::kHALF ? StorageType::kFloat16 : StorageType::kFloat32;
  }

  // The sizes that are known at build time; the others are -1.
  static nvinfer1::Dims known(const nvinfer1::DimsExprs& shape) {
    nvinfer1::Dims dims{};
    dims.nbDims = shape.nbDims;
    for (int i = 0; i < shape.nbDims; ++i) dims.d[i] = shape.d[i]->isConstant() ? shape.d[i]->getConstantValue() : -1;
    return dims;
  }

  int32_t check(const nvinfer1::Dims* dims, int32_t inputs) const {
    const char* problem = inputs == Op::kInputs ? Op::problem(attribute_, dims) : "the number of inputs is wrong";
    if (problem == nullptr) return 0;
    report(Op::kName, problem);
    return -1;
  }

  int32_t attribute_;
  nvinfer1::PluginField field_{Op::kAttribute, &attribute_, nvinfer1::PluginFieldType::kINT32, 1};
  nvinfer1::PluginFieldCollection serialized_{1, &field_};
};

template <typename Op>
class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  const char* getPluginName() const noexcept override { return Op::kName; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &names_; }

  nvinfer1::IPluginV3* createPlugin(const char*, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase) noexcept override {
    for (int i = 0; fields != nullptr && i < fields->nbFields; ++i) {
      const nvinfer1::PluginField& field = fields->fields[i];
      if (field.name == nullptr || std::strcmp(field.name, Op::kAttribute) != 0) continue;
      if (field.data == nullptr || field.length != 1) break;
      if (field.type == nvinfer1::PluginFieldType::kINT32) {
        return new (std::nothrow) Plugin<Op>(*static_cast<const int32_t*>(field.data));
      }
      if (field.type == nvinfer1::PluginFieldType::kINT64) {
        return new (std::nothrow) Plugin<Op>(static_cast<int32_t>(*static_cast<const int64_t*>(field.data)));
      }
      break;
    }
    char sentence[96];
    std::snprintf(sentence, sizeof(sentence), "the node needs the attribute %s, one integer", Op::kAttribute);
    report(Op::kName, sentence);
    return nullptr;
  }

 private:
  nvinfer1::PluginField field_{Op::kAttribute, nullptr, nvinfer1::PluginFieldType::kINT32, 1};
  nvinfer1::PluginFieldCollection names_{1, &field_};
};

// True when two sizes are equal or one of them is not known yet.
inline bool may_equal(int64_t a, int64_t b) { return a < 0 || b < 0 || a == b; }

}  // namespace ksnet
