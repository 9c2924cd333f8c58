import CProtobufSchema
import DLCFormats
import DLCTensor

/// Encodes a model in ONNX's wire format.
struct ModelWriter {
  private let arena = ProtobufArena()
  /// The file for tensors, when they do not go into the model's own.
  var external: ExternalTensors?

  /// Tensors in a file beside the model.
  final class ExternalTensors {
    let name: String
    private(set) var places: [String: (offset: Int, length: Int)] = [:]
    private(set) var order: [(name: String, tensor: Tensor)] = []
    private(set) var byteCount = 0

    init(_ name: String) { self.name = name }

    func add(_ name: String, _ tensor: Tensor) -> (offset: Int, length: Int) {
      // Aligned, so that readers can map it.
      let offset = (byteCount + 4095) / 4096 * 4096
      byteCount = offset + tensor.byteCount
      order.append((name, tensor))
      places[name] = (offset, tensor.byteCount)
      return (offset, tensor.byteCount)
    }
  }

  init(external: ExternalTensors? = nil) { self.external = external }

  func encode(_ graph: ONNXGraph, opset: Int, producer: String) -> [UInt8] {
    let model = arena.message(onnx__model__init) { m in
      m.ir_version = opset >= 21 ? 10 : 8
      m.producer_name = arena.string(producer)
      m.graph = self.graph(graph)
      let set = arena.message(onnx__operator_set__init) { (s: inout Onnx__OperatorSet) in
        s.domain = arena.string("")
        s.version = Int64(opset)
      }
      m.n_opset_import = 1
      m.opset_import = arena.messages([set])
    }
    return UnsafePointer(model).withMemoryRebound(to: ProtobufCMessage.self, capacity: 1) {
      ProtobufArena.encode($0)
    }
  }

  private func graph(_ graph: ONNXGraph) -> UnsafeMutablePointer<Onnx__Graph> {
    arena.message(onnx__graph__init) { g in
      g.name = arena.string(graph.name)
      g.n_node = graph.nodes.count
      g.node = arena.messages(graph.nodes.map(node))
      g.n_input = graph.inputs.count
      g.input = arena.messages(graph.inputs.map(info))
      g.n_output = graph.outputs.count
      g.output = arena.messages(graph.outputs.map(info))
      let tensors = graph.initializers.sorted { $0.key < $1.key }
      g.n_initializer = tensors.count
      g.initializer = arena.messages(tensors.map { tensor($0.value, $0.key) })
    }
  }

  private func node(_ node: ONNXNode) -> UnsafeMutablePointer<Onnx__Node> {
    arena.message(onnx__node__init) { n in
      n.name = arena.string(node.name)
      n.op_type = arena.string(node.type)
      n.domain = arena.string(node.domain)
      n.n_input = node.inputs.count
      n.input = arena.strings(node.inputs)
      n.n_output = node.outputs.count
      n.output = arena.strings(node.outputs)
      let list = node.attributes.sorted { $0.key < $1.key }
      n.n_attribute = list.count
      n.attribute = arena.messages(list.map { attribute($0.key, $0.value) })
    }
  }

  private func attribute(_ name: String, _ value: ONNXAttribute) -> UnsafeMutablePointer<
    Onnx__Attribute
  > {
    arena.message(onnx__attribute__init) { a in
      a.name = arena.string(name)
      switch value {
      case .float(let v):
        a.type = 1
        a.f = Float(v)
      case .integer(let v):
        a.type = 2
        a.i = Int64(v)
      case .text(let v):
        a.type = 3
        a.s = arena.binary(Tensor(.uint8, [v.count], truncating: v.map(Int64.init)))
      case .tensor(let v):
        a.type = 4
        a.t = tensor(v, v.name)
      case .graph(let v):
        a.type = 5
        a.g = graph(v)
      case .floats(let v):
        a.type = 6
        a.n_floats = v.count
        a.floats = arena.list(v.map { Float($0) })
      case .integers(let v):
        a.type = 7
        a.n_ints = v.count
        a.ints = arena.list(v.map { Int64($0) })
      default: preconditionFailure("attribute '\(name)' is never written")
      }
    }
  }

  private func tensor(_ tensor: ONNXTensor, _ name: String) -> UnsafeMutablePointer<Onnx__Tensor> {
    arena.message(onnx__tensor__init) { t in
      t.name = arena.string(name)
      t.data_type = tensor.elementType.rawValue
      let value = tensor.value!
      t.n_dims = value.shape.count
      t.dims = arena.list(value.shape.map { Int64($0) })
      if let external, value.byteCount >= 1024 {
        let place = external.add(name, value)
        t.data_location = 1
        let entries = [
          ("location", external.name), ("offset", "\(place.offset)"), ("length", "\(place.length)"),
        ]
        t.n_external_data = entries.count
        t.external_data = arena.messages(
          entries.map { key, text in
            arena.message(onnx__entry__init) { (e: inout Onnx__Entry) in
              e.key = arena.string(key)
              e.value = arena.string(text)
            }
          })
      } else {
        t.raw_data = arena.binary(value)
      }
    }
  }

  private func info(_ info: ONNXValueInfo) -> UnsafeMutablePointer<Onnx__ValueInfo> {
    arena.message(onnx__value_info__init) { v in
      v.name = arena.string(info.name)
      v.type = arena.message(onnx__type__init) { (t: inout Onnx__Type) in
        t.value_case = ONNX__TYPE__VALUE_TENSOR_TYPE
        t.tensor_type = arena.message(onnx__tensor_type__init) { (p: inout Onnx__TensorType) in
          p.elem_type = info.elementType.rawValue
          guard let shape = info.shape else { return }
          p.shape = arena.message(onnx__shape__init) { (s: inout Onnx__Shape) in
            s.n_dim = shape.count
            s.dim = arena.messages(shape.map(dimension))
          }
        }
      }
    }
  }

  private func dimension(_ size: ONNXValueInfo.Dimension) -> UnsafeMutablePointer<Onnx__Dimension> {
    arena.message(onnx__dimension__init) { d in
      switch size {
      case .size(let n):
        d.value_case = ONNX__DIMENSION__VALUE_DIM_VALUE
        d.dim_value = Int64(n)
      case .name(let name):
        d.value_case = ONNX__DIMENSION__VALUE_DIM_PARAM
        d.dim_param = arena.string(name)
      case .open: break
      }
    }
  }
}
