// What the operators' TensorRT plugins have in common. An operator describes itself in a struct of static members, and
// Plugin and Creator make of it what TensorRT asks for. Attributes are integers, and all must be there.
//
//   struct Op {
//     static constexpr const char* kName;                     as in the ONNX file,
//     static constexpr const char* kAttributes[];             as are these
//     static constexpr int kInputs, kRequired, kOutputs;      inputs behind the required ones may be left out
//     static constexpr bool is_float(int input);              FLOAT whatever the storage type is
//     static constexpr bool may_be_hwc8(int input);           lies as the first input does, channels first or last, as
//                                                             outputs do; none unless the first one may
//     using Params = ...;                                     the launcher's struct
//     static const char* problem(const int32_t* attributes, const nvinfer1::Dims* inputs, int count);
//                                             a sentence, or null; sizes below zero are not known yet
//     static bool shapes(const int32_t* attributes, const nvinfer1::DimsExprs* inputs, nvinfer1::DimsExprs* outputs,
//                        nvinfer1::IExprBuilder&);
//     static Params params(const int32_t* attributes, const nvinfer1::Dims* inputs, int count, StorageType, bool hwc8);
//     static void set_pointers(Params&, const void* const* inputs, int count, void* const* outputs, void* workspace);
//     static size_t workspace(const Params&);
//     static cudaError_t run(const Params&, cudaStream_t);
//   };
//
// No exception leaves a method; TensorRT gets -1 or a null pointer. The sentence that says why goes to stderr: the
// logger that setLoggerFinder offers has another layout in TensorRT 11 than in 10, and a library built with the headers
// of one is loaded into the other.
#pragma once

#include <NvInferRuntime.h>

#include <array>
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
constexpr int kAttributeCount = sizeof(Op::kAttributes) / sizeof(Op::kAttributes[0]);

template <typename Op>
using Attributes = std::array<int32_t, kAttributeCount<Op>>;

template <typename Op>
class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
 public:
  explicit Plugin(const Attributes<Op>& attributes) noexcept : attributes_(attributes) {
    for (int i = 0; i < kAttributeCount<Op>; ++i) {
      fields_[i] = nvinfer1::PluginField{Op::kAttributes[i], &attributes_[i], nvinfer1::PluginFieldType::kINT32, 1};
    }
  }

  // IPluginV3
  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override {
    switch (type) {
      case nvinfer1::PluginCapabilityType::kCORE: return static_cast<nvinfer1::IPluginV3OneCore*>(this);
      case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
      case nvinfer1::PluginCapabilityType::kRUNTIME: return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
  }
  nvinfer1::IPluginV3* clone() noexcept override { return new (std::nothrow) Plugin(attributes_); }

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
    if (!has_inputs(inputs) || outputs != Op::kOutputs || !is_storage(in[0])) {
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
    return Op::shapes(attributes_.data(), in, out, builder) ? 0 : -1;
  }

  bool supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors, int32_t inputs,
                                 int32_t) noexcept override {
    const nvinfer1::PluginTensorDesc& tensor = tensors[position].desc;
    const nvinfer1::PluginTensorDesc& first = tensors[0].desc;
    const bool follows = position >= inputs || Op::may_be_hwc8(position);
    const bool is_float = position < inputs && Op::is_float(position);
    if (position == 0) {
      return is_storage(tensor.type) && (tensor.format == nvinfer1::TensorFormat::kLINEAR ||
                                         (follows && is_hwc8(tensor) && tensor.type == nvinfer1::DataType::kHALF));
    }
    return tensor.type == (is_float ? nvinfer1::DataType::kFLOAT : first.type) &&
           tensor.format == (follows ? first.format : nvinfer1::TensorFormat::kLINEAR);
  }

  size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* in, int32_t inputs,
                          const nvinfer1::DynamicPluginTensorDesc*, int32_t) const noexcept override {
    nvinfer1::Dims dims[Op::kInputs];
    for (int i = 0; i < inputs && i < Op::kInputs; ++i) dims[i] = in[i].max;
    const nvinfer1::PluginTensorDesc& first = in[0].desc;
    return Op::workspace(Op::params(attributes_.data(), dims, inputs, storage_type(first.type), is_hwc8(first)));
  }

  // IPluginV3OneRuntime
  int32_t onShapeChange(const nvinfer1::PluginTensorDesc* in, int32_t inputs, const nvinfer1::PluginTensorDesc*,
                        int32_t) noexcept override {
    nvinfer1::Dims dims[Op::kInputs];
    for (int i = 0; i < inputs && i < Op::kInputs; ++i) dims[i] = in[i].dims;
    count_ = inputs;
    return check(dims, inputs);
  }

  int32_t enqueue(const nvinfer1::PluginTensorDesc* in, const nvinfer1::PluginTensorDesc*, const void* const* inputs,
                  void* const* outputs, void* workspace, cudaStream_t stream) noexcept override {
    nvinfer1::Dims dims[Op::kInputs];
    for (int i = 0; i < count_; ++i) dims[i] = in[i].dims;
    auto params = Op::params(attributes_.data(), dims, count_, storage_type(in[0].type), is_hwc8(in[0]));
    Op::set_pointers(params, inputs, count_, outputs, workspace);
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

  static bool has_inputs(int32_t count) { return count >= Op::kRequired && count <= Op::kInputs; }

  static bool is_hwc8(const nvinfer1::PluginTensorDesc& tensor) {
    return tensor.format == nvinfer1::TensorFormat::kHWC8;
  }

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
    const char* problem =
        has_inputs(inputs) ? Op::problem(attributes_.data(), dims, inputs) : "the number of inputs is wrong";
    if (problem == nullptr) return 0;
    report(Op::kName, problem);
    return -1;
  }

  Attributes<Op> attributes_;
  int32_t count_ = Op::kInputs;  // of the inputs; onShapeChange tells it before the first run
  nvinfer1::PluginField fields_[kAttributeCount<Op>];
  nvinfer1::PluginFieldCollection serialized_{kAttributeCount<Op>, fields_};
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
    Attributes<Op> attributes{};
    for (int i = 0; i < kAttributeCount<Op>; ++i) {
      if (fields != nullptr && read(*fields, Op::kAttributes[i], attributes[i])) continue;
      char sentence[96];
      std::snprintf(sentence, sizeof(sentence), "the node needs the attribute %s, one integer", Op::kAttributes[i]);
      report(Op::kName, sentence);
      return nullptr;
    }
    return new (std::nothrow) Plugin<Op>(attributes);
  }

  Creator() {
    for (int i = 0; i < kAttributeCount<Op>; ++i) {
      fields_[i] = nvinfer1::PluginField{Op::kAttributes[i], nullptr, nvinfer1::PluginFieldType::kINT32, 1};
    }
  }

 private:
  static bool read(const nvinfer1::PluginFieldCollection& fields, const char* name, int32_t& value) {
    for (int i = 0; i < fields.nbFields; ++i) {
      const nvinfer1::PluginField& field = fields.fields[i];
      if (field.name == nullptr || std::strcmp(field.name, name) != 0) continue;
      if (field.data == nullptr || field.length != 1) return false;
      if (field.type == nvinfer1::PluginFieldType::kINT32) {
        value = *static_cast<const int32_t*>(field.data);
        return true;
      }
      if (field.type == nvinfer1::PluginFieldType::kINT64) {
        value = static_cast<int32_t>(*static_cast<const int64_t*>(field.data));
        return true;
      }
      return false;
    }
    return false;
  }

  nvinfer1::PluginField fields_[kAttributeCount<Op>];
  nvinfer1::PluginFieldCollection names_{kAttributeCount<Op>, fields_};
};

// True when two sizes are equal or one of them is not known yet.
inline bool may_equal(int64_t a, int64_t b) { return a < 0 || b < 0 || a == b; }

}  // namespace ksnet
