import CProtobufSchema
package import DLCGraph
import DLCTensor

extension ModuleFile {
  /// The bytes of the model file; values above the limit are left to `weights` when it is not empty.
  package static func encode(_ module: Module, weights: String = "") -> [UInt8] {
    let arena = ProtobufArena()
    let message = arena.message(dlc__module__init) { m in
      m.schema_version = schemaVersion
      m.producer = arena.string(producer)
      m.name = arena.string(module.name)
      let dimensions = module.dimensions.map { dimension in
        arena.message(dlc__named_dimension__init) {
          $0.name = arena.string(dimension.name)
          $0.default_size = Int64(dimension.size)
        }
      }
      (m.n_dimensions, m.dimensions) = (dimensions.count, arena.messages(dimensions))
      let states = module.states.map {
        encode($0, arena, isExternal: !weights.isEmpty && ($0.value?.byteCount ?? 0) > inlineLimit)
      }
      (m.n_states, m.states) = (states.count, arena.messages(states))
      let functions = module.functions.map { function in
        arena.message(dlc__function__init) {
          $0.name = arena.string(function.name)
          $0.graph = encode(function.graph, arena)
        }
      }
      (m.n_functions, m.functions) = (functions.count, arena.messages(functions))
      m.weights_file = arena.string(weights)
      if let recipe = module.recipe { m.recipe = recipe.encode(arena) }
    }
    return message.withMemoryRebound(to: ProtobufCMessage.self, capacity: 1) {
      ProtobufArena.encode($0)
    }
  }

  private static func encode(_ state: State, _ arena: ProtobufArena, isExternal: Bool)
    -> UnsafeMutablePointer<Dlc__State>
  {
    arena.message(dlc__state__init) { s in
      s.name = arena.string(state.name)
      s.type = encode(state.type, arena)
      let (name, arguments) = state.initializer.encoded
      s.initializer = arena.string(name)
      (s.n_arguments, s.arguments) = (arguments.count, arena.list(arguments))
      s.parameter = state.isParameter ? 1 : 0
      s.external = isExternal ? 1 : 0
      if let value = state.value, !isExternal { s.value = encode(value, arena) }
    }
  }

  private static func encode(_ type: TensorType, _ arena: ProtobufArena) -> UnsafeMutablePointer<
    Dlc__TensorType
  > {
    arena.message(dlc__tensor_type__init) { t in
      t.dtype = arena.string(type.dataType.rawValue)
      (t.n_shape, t.shape) = (type.rank, arena.messages(encode(type.shape, arena)))
    }
  }

  private static func encode(_ shape: [Size], _ arena: ProtobufArena) -> [UnsafeMutablePointer<
    Dlc__Dimension
  >] {
    shape.map { dimension in
      arena.message(dlc__dimension__init) {
        if let size = dimension.constant {
          $0.size = Int64(size)
        } else {
          $0.expression = arena.string(dimension.description)
        }
      }
    }
  }

  private static func encode(_ tensor: Tensor, _ arena: ProtobufArena) -> UnsafeMutablePointer<
    Dlc__Tensor
  > {
    arena.message(dlc__tensor__init) {
      $0.dtype = arena.string(tensor.dataType.rawValue)
      ($0.n_shape, $0.shape) = (tensor.shape.count, arena.list(tensor.shape.map { Int64($0) }))
      $0.data = arena.binary(tensor)
    }
  }

  private static func encode(_ graph: Graph, _ arena: ProtobufArena) -> UnsafeMutablePointer<
    Dlc__Graph
  > {
    arena.message(dlc__graph__init) { g in
      let arguments = graph.arguments.map { argument in
        arena.message(dlc__argument__init) {
          $0.state = argument.kind == .state ? 1 : 0
          $0.captured = argument.kind == .captured ? 1 : 0
          $0.name = arena.string(argument.name)
          $0.type = encode(argument.type, arena)
        }
      }
      (g.n_arguments, g.arguments) = (arguments.count, arena.messages(arguments))
      let nodes = graph.nodes.map { encode($0, graph, arena) }
      (g.n_nodes, g.nodes) = (nodes.count, arena.messages(nodes))
      func named(_ list: [NamedValue]) -> [UnsafeMutablePointer<Dlc__NamedValue>] {
        list.map { entry in
          arena.message(dlc__named_value__init) {
            $0.name = arena.string(entry.name)
            $0.value = UInt32(entry.value.index)
          }
        }
      }
      (g.n_results, g.results) = (graph.results.count, arena.messages(named(graph.results)))
      (g.n_updates, g.updates) = (graph.updates.count, arena.messages(named(graph.updates)))
    }
  }

  private static func encode(_ node: Node, _ graph: Graph, _ arena: ProtobufArena)
    -> UnsafeMutablePointer<Dlc__Node>
  {
    arena.message(dlc__node__init) { n in
      n.mnemonic = arena.string(node.operation.mnemonic)
      n.version = 1
      (n.n_operands, n.operands) = (
        node.operands.count, arena.list(node.operands.map { UInt32($0.index) })
      )
      let attributes = node.operation.attributes.map { attribute in
        arena.message(dlc__attribute__init) { a in
          a.name = arena.string(attribute.name)
          switch attribute.value {
          case .integer(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_INTEGER
            a.integer = Int64(v)
          case .real(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_REAL
            a.real = v
          case .text(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_TEXT
            a.text = arena.string(v)
          case .flag(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_FLAG
            a.flag = v ? 1 : 0
          case .type(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_DTYPE
            a.dtype = arena.string(v.rawValue)
          case .integers(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_INTEGERS
            a.integers = arena.message(dlc__integers__init) {
              ($0.n_values, $0.values) = (v.count, arena.list(v.map { Int64($0) }))
            }
          case .dimensions(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_DIMENSIONS
            a.dimensions = arena.message(dlc__dimensions__init) {
              ($0.n_values, $0.values) = (v.count, arena.messages(encode(v, arena)))
            }
          case .tensor(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_TENSOR
            a.tensor = encode(v, arena)
          }
        }
      }
      (n.n_attributes, n.attributes) = (attributes.count, arena.messages(attributes))
      let results = node.results.map { encode(graph.type($0), arena) }
      (n.n_results, n.results) = (results.count, arena.messages(results))
      let regions = node.operation.regions.map { encode($0, arena) }
      (n.n_regions, n.regions) = (regions.count, arena.messages(regions))
      n.name = arena.string(node.name)
      n.location = arena.string(node.location)
    }
  }
}
