// ksnet::KsAlign as an operation of OpenVINO, float32 and bfloat16. OpenVINO's C++ interface changes from version to
// version, so that a library is for the one that it was built with.

#include <tbb/parallel_for.h>

#include <memory>
#include <openvino/core/extension.hpp>
#include <openvino/core/op_extension.hpp>
#include <openvino/frontend/onnx/extension/op.hpp>
#include <openvino/op/op.hpp>

#include "align.h"

namespace ksnet {
namespace {

// An operation is evaluated in the arena of the request, whose threads parallel_for() takes.
void in_arena(size_t count, const std::function<void(size_t)>& part) { tbb::parallel_for(size_t{0}, count, part); }

class KsAlign : public ov::op::Op {
 public:
  OPENVINO_OP("KsAlign", "ksnet");

  KsAlign() = default;
  KsAlign(const ov::OutputVector& inputs, int64_t groups, int64_t stride)
      : Op(inputs), offset_group_(groups), offset_stride_(stride) {
    constructor_validate_and_infer_types();
  }

  void validate_and_infer_types() override {
    NODE_VALIDATION_CHECK(this, get_input_size() == 4 || get_input_size() == 5, "KsAlign takes 4 or 5 inputs");
    ov::PartialShape shape = get_input_partial_shape(0);
    const ov::PartialShape weight = get_input_partial_shape(1);
    NODE_VALIDATION_CHECK(this, shape.rank() == 4 && weight.rank() == 4, "KsAlign takes tensors of 4 dimensions");
    shape[1] = weight[0];
    set_output_type(0, get_input_element_type(0), shape);
  }

  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
    return std::make_shared<KsAlign>(inputs, offset_group_, offset_stride_);
  }

  bool visit_attributes(ov::AttributeVisitor& visitor) override {
    visitor.on_attribute("offset_group", offset_group_);
    visitor.on_attribute("offset_stride", offset_stride_);
    return true;
  }

  bool has_evaluate() const override {
    const ov::element::Type type = get_input_element_type(0);
    return type == ov::element::f32 || type == ov::element::bf16;
  }

  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
    const ov::Shape x = inputs[0].get_shape();
    const ov::Shape weight = inputs[1].get_shape();
    const ov::Shape raw = inputs[3].get_shape();
    const ov::element::Type type = inputs[0].get_element_type();
    const size_t stride = static_cast<size_t>(offset_stride_);
    OPENVINO_ASSERT(type == ov::element::f32 || type == ov::element::bf16, "KsAlign: the type is ", type);
    for (size_t i = 1; i < 4; ++i)
      OPENVINO_ASSERT(inputs[i].get_element_type() == type, "KsAlign: the types of the inputs differ");
    OPENVINO_ASSERT(weight == (ov::Shape{weight[0], x[1], 3, 3}) && inputs[2].get_size() == weight[0] &&
                        raw == (ov::Shape{x[0], 27 * static_cast<size_t>(offset_group_), (x[2] - 1) / stride + 1,
                                          (x[3] - 1) / stride + 1}),
                    "KsAlign: the shapes of the inputs do not fit together");
    const float* flow = nullptr;
    size_t flows = 0;
    if (inputs.size() == 5) {
      const ov::Shape sides = inputs[4].get_shape();
      OPENVINO_ASSERT(sides.size() == 4 && sides == (ov::Shape{x[0], sides[1], x[2], x[3]}),
                      "KsAlign: the shape of the flow does not fit");
      flow = inputs[4].data<float>();
      flows = sides[1] / 2;
    }
    outputs[0].set_shape({x[0], weight[0], x[2], x[3]});
    const auto number = [](size_t side) { return static_cast<int32_t>(side); };
    const AlignParams params = {inputs[0].data(),
                                inputs[1].data(),
                                inputs[2].data(),
                                inputs[3].data(),
                                flow,
                                outputs[0].data(),
                                number(x[0]),
                                number(x[1]),
                                number(weight[0]),
                                number(x[2]),
                                number(x[3]),
                                number(static_cast<size_t>(offset_group_)),
                                number(flows),
                                number(stride),
                                type == ov::element::bf16 ? AlignType::kBfloat16 : AlignType::kFloat32};
    const char* wrong = align(params, *workspaces_, in_arena);
    OPENVINO_ASSERT(wrong == nullptr, wrong);
    return true;
  }

 private:
  int64_t offset_group_ = 1;
  int64_t offset_stride_ = 1;
  std::shared_ptr<AlignWorkspaces> workspaces_{create_align_workspaces(), destroy_align_workspaces};
};

}  // namespace
}  // namespace ksnet

OPENVINO_CREATE_EXTENSIONS(std::vector<ov::Extension::Ptr>(
    {std::make_shared<ov::OpExtension<ksnet::KsAlign>>(),
     std::make_shared<ov::frontend::onnx::OpExtension<ksnet::KsAlign>>("KsAlign", "ksnet")}));
