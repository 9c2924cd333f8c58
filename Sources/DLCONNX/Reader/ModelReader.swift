import CProtobufSchema
package import DLCFormats
package import DLCTensor

extension ONNXModel {
  /// Whether a protobuf message is an ONNX model and not a graph of dlc: its field 7 is a graph, not the name of a file.
  package static func isModel(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let graph = ProtobufWire.field(7, of: bytes) else { return false }
    if graph.count > 255 { return true }
    // A name of a file is short, and no message.
    if case .damage? = ProtobufWire.flaw(graph, onnx_graph_descriptor(), atMost: 1000) {
      return false
    }
    return true
  }

  /// Reads a model and checks everything that does not depend on shapes.
  /// - Throws: `.format` for what is damaged or not ONNX, `.graph` for what does not fit together.
  package init(_ file: MappedFile) throws(DLCError) {
    try self.init(file.bytes, path: file.path)
  }

  /// - Parameter path: where the model lies, beside which its external data does.
  package init(_ bytes: UnsafeRawBufferPointer, path: String) throws(DLCError) {
    do throws(DLCError) {
      let message = try ProtobufMessage(
        bytes, onnx_model_descriptor(), as: Onnx__Model.self, kind: "an ONNX model", depth: 1000,
        path: "")
      defer { withExtendedLifetime(message) {} }
      var reader = ModelReader(TensorReader(owner: message, path: path))
      self = try reader.read(message.value)
    } catch {
      throw error.within(path)
    }
  }

  /// The model that a program is the first part of; nil for other programs.
  package init?(carriedBy contents: ProgramFile.Contents) throws(DLCError) {
    guard contents.isPart else { return nil }
    try self.init(contents.module, path: contents.file.path)
  }

  package init(contentsOf path: String) throws(DLCError) { try self.init(try MappedFile(path)) }
}

/// Turns decoded messages into the importer's structures.
private struct ModelReader {
  let tensors: TensorReader
  var opsets: [String: Int] = [:]
  /// So deep may graphs be in graphs.
  static let maximumDepth = 64

  init(_ tensors: TensorReader) { self.tensors = tensors }

  mutating func read(_ m: Onnx__Model) throws(DLCError) -> ONNXModel {
    guard let graph = m.graph else { throw DLCError(.format, "the model has no graph") }
    guard m.ir_version >= 1 else {
      throw DLCError(
        .format, "IR version \(m.ir_version) is not known; the file is damaged or no ONNX model")
    }
    opsets = try Self.opsets(each(m.n_opset_import, m.opset_import))
    // Before IR version 3 there was one operator set.
    if opsets[""] == nil { opsets[""] = 1 }
    var functions: [ONNXModel.FunctionKey: ONNXFunction] = [:]
    for f in each(m.n_functions, m.functions) {
      let function = try read(f)
      guard functions.updateValue(function, forKey: function.key) == nil else {
        throw DLCError(.graph, "function '\(function.key.name)' is there twice")
      }
    }
    return ONNXModel(
      path: tensors.path, producer: text(m.producer_name), opsets: opsets,
      graph: try read(graph.pointee, depth: 0), functions: functions)
  }

  static func domain(_ name: String) -> String { name == "ai.onnx" ? "" : name }

  static func opsets(_ list: [Onnx__OperatorSet]) throws(DLCError) -> [String: Int] {
    var result: [String: Int] = [:]
    for set in list {
      guard set.version >= 1, set.version < 1 << 20 else {
        throw DLCError(.format, "operator set '\(text(set.domain))' has version \(set.version)")
      }
      result[domain(text(set.domain))] = Int(set.version)
    }
    return result
  }

  mutating func read(_ f: Onnx__Function) throws(DLCError) -> ONNXFunction {
    let outer = opsets
    defer { opsets = outer }
    opsets = outer.merging(try Self.opsets(each(f.n_opset_import, f.opset_import))) { $1 }
    let key = ONNXModel.FunctionKey(
      domain: Self.domain(text(f.domain)), name: text(f.name), overload: text(f.overload))
    do throws(DLCError) {
      return ONNXFunction(
        key: key, inputs: each(f.n_input, f.input).map { text($0) },
        outputs: each(f.n_output, f.output).map { text($0) },
        nodes: try read(each(f.n_node, f.node), depth: 0), opsets: opsets,
        defaults: try read(each(f.n_attribute_proto, f.attribute_proto), depth: 0))
    } catch {
      throw error.within("function '\(key.name)'")
    }
  }

  func read(_ g: Onnx__Graph, depth: Int) throws(DLCError) -> ONNXGraph {
    guard depth <= Self.maximumDepth else {
      throw DLCError(.format, "graphs are nested more than \(Self.maximumDepth) deep")
    }
    var initializers: [String: ONNXTensor] = [:]
    func add(_ tensor: ONNXTensor) throws(DLCError) {
      guard initializers.updateValue(tensor, forKey: tensor.name) == nil else {
        throw DLCError(.graph, "initializer '\(tensor.name)' is there twice")
      }
    }
    for t in each(g.n_initializer, g.initializer) { try add(try tensors.read(t)) }
    for t in each(g.n_sparse_initializer, g.sparse_initializer) { try add(try tensors.read(t)) }
    return ONNXGraph(
      name: text(g.name), nodes: try read(each(g.n_node, g.node), depth: depth),
      inputs: try read(each(g.n_input, g.input)), outputs: try read(each(g.n_output, g.output)),
      initializers: initializers)
  }

  private func read(_ list: [Onnx__ValueInfo]) throws(DLCError) -> [ONNXValueInfo] {
    var result: [ONNXValueInfo] = []
    for value in list {
      do throws(DLCError) {
        result.append(try read(value))
      } catch { throw error.within("value '\(text(value.name))'") }
    }
    return result
  }

  private func read(_ value: Onnx__ValueInfo) throws(DLCError) -> ONNXValueInfo {
    var info = ONNXValueInfo(name: text(value.name), elementType: .undefined)
    guard let type = value.type?.pointee else { return info }
    switch type.value_case {
    case ONNX__TYPE__VALUE_TENSOR_TYPE:
      guard let tensor = type.tensor_type?.pointee else { break }
      guard let element = ElementType(rawValue: tensor.elem_type) else {
        throw DLCError(.format, "element type \(tensor.elem_type) is not known")
      }
      info.elementType = element
      guard let shape = tensor.shape?.pointee else { break }
      var dimensions: [ONNXValueInfo.Dimension] = []
      for d in each(shape.n_dim, shape.dim) {
        switch d.value_case {
        case ONNX__DIMENSION__VALUE_DIM_VALUE where d.dim_value >= 0:
          dimensions.append(.size(Int(d.dim_value)))
        // Paddle writes -1 for what is open.
        case ONNX__DIMENSION__VALUE_DIM_VALUE where d.dim_value == -1: dimensions.append(.open)
        case ONNX__DIMENSION__VALUE_DIM_VALUE:
          throw DLCError(.format, "a dimension is \(d.dim_value)")
        case ONNX__DIMENSION__VALUE_DIM_PARAM:
          let name = text(d.dim_param)
          dimensions.append(name.isEmpty || name == "?" || name == "-1" ? .open : .name(name))
        default: dimensions.append(.open)
        }
      }
      info.shape = dimensions
    case ONNX__TYPE__VALUE_SEQUENCE_TYPE: info.otherKind = "a sequence"
    case ONNX__TYPE__VALUE_MAP_TYPE: info.otherKind = "a map"
    case ONNX__TYPE__VALUE_SPARSE_TENSOR_TYPE: info.otherKind = "a sparse tensor"
    case ONNX__TYPE__VALUE_OPTIONAL_TYPE: info.otherKind = "an optional"
    default: break
    }
    return info
  }

  private func read(_ list: [Onnx__Node], depth: Int) throws(DLCError) -> [ONNXNode] {
    var nodes: [ONNXNode] = []
    nodes.reserveCapacity(list.count)
    for (number, n) in list.enumerated() {
      let type = text(n.op_type)
      let name = text(n.name)
      let outputs = each(n.n_output, n.output).map { text($0) }
      let title = name.isEmpty ? outputs.first { !$0.isEmpty } ?? "\(number)" : name
      do throws(DLCError) {
        nodes.append(
          ONNXNode(
            name: title, domain: Self.domain(text(n.domain)), type: type,
            overload: text(n.overload),
            inputs: each(n.n_input, n.input).map { text($0) }, outputs: outputs,
            attributes: try read(each(n.n_attribute, n.attribute), depth: depth), opsets: opsets))
      } catch {
        throw error.within("node '\(title)' (\(type))")
      }
    }
    return nodes
  }

  private func read(_ list: [Onnx__Attribute], depth: Int) throws(DLCError)
    -> [String: ONNXAttribute]
  {
    var result: [String: ONNXAttribute] = [:]
    for a in list {
      let name = text(a.name)
      do throws(DLCError) {
        guard result.updateValue(try read(a, depth: depth), forKey: name) == nil else {
          throw DLCError(.graph, "it is there twice")
        }
      } catch {
        throw error.within("attribute '\(name)'")
      }
    }
    return result
  }

  private func read(_ a: Onnx__Attribute, depth: Int) throws(DLCError) -> ONNXAttribute {
    let reference = text(a.ref_attr_name)
    if !reference.isEmpty { return .reference(reference) }
    switch a.type == 0 ? Self.guess(a) : a.type {
    case 1: return .float(Double(a.f))
    case 2: return .integer(Int(a.i))
    case 3: return .text(Self.bytes(a.s))
    case 4:
      guard let t = a.t else { throw DLCError(.format, "the tensor is missing") }
      return .tensor(try tensors.read(t.pointee))
    case 5:
      guard let g = a.g else { throw DLCError(.format, "the graph is missing") }
      return .graph(try read(g.pointee, depth: depth + 1))
    case 6: return .floats(each(a.n_floats, a.floats).map(Double.init))
    case 7: return .integers(each(a.n_ints, a.ints).map(Int.init))
    case 8: return .texts(each(a.n_strings, a.strings).map(Self.bytes))
    case 9:
      var list: [ONNXTensor] = []
      for t in each(a.n_tensors, a.tensors) { list.append(try tensors.read(t)) }
      return .tensors(list)
    case 10:
      var list: [ONNXGraph] = []
      for g in each(a.n_graphs, a.graphs) { list.append(try read(g, depth: depth + 1)) }
      return .graphs(list)
    case 11:
      guard let t = a.sparse_tensor else { throw DLCError(.format, "the tensor is missing") }
      return .tensor(try tensors.read(t.pointee))
    case 12: return .unsupported("sparse tensors")
    case 13, 14: return .unsupported("types")
    default: throw DLCError(.format, "attribute type \(a.type) is not known")
    }
  }

  /// The type of an attribute of a file that is older than the field which says it.
  private static func guess(_ a: Onnx__Attribute) -> Int32 {
    if a.n_floats > 0 { return 6 }
    if a.n_ints > 0 { return 7 }
    if a.n_strings > 0 { return 8 }
    if a.n_tensors > 0 { return 9 }
    if a.n_graphs > 0 { return 10 }
    if a.t != nil { return 4 }
    if a.g != nil { return 5 }
    if a.s.len > 0 { return 3 }
    if a.f != 0 { return 1 }
    return 2
  }

  private static func bytes(_ data: ProtobufCBinaryData) -> [UInt8] {
    Array(UnsafeBufferPointer(start: data.data, count: data.len))
  }
}
