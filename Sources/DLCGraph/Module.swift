public import DLCTensor

/// How a state tensor starts. Random ones draw from Philox under the seed and the tensor's name, so
/// that a seed means the same everywhere.
public enum Initializer: Hashable, Sendable {
  /// Every element is 0.
  case zeros
  /// Every element is the number.
  case constant(Double)
  /// Uniform from the first number to the second.
  case uniform(Double, Double)
  /// Normal.
  case normal(mean: Double, deviation: Double)
  /// Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010).
  case glorotUniform
  /// Normal with the deviation sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010).
  case glorotNormal
  /// Uniform in +-sqrt(6 / fan_in) (He et al. 2015).
  case heUniform
  /// Normal with the deviation sqrt(2 / fan_in) (He et al. 2015).
  case heNormal
}

/// A named tensor that outlives a run: a parameter, an optimizer moment, a running statistic.
public struct State: Hashable, Sendable {
  /// The name, alone of its kind in the module.
  public var name: String
  /// Element type and shape, which may have named dimensions.
  public var type: TensorType
  /// What it starts as where no value is stored.
  public var initializer: Initializer
  /// Whether losses are differentiated by it.
  public var isParameter: Bool
  /// The stored value, if the file holds one; it decides over the initialiser.
  public var value: Tensor?

  package init(
    name: String, type: TensorType, initializer: Initializer, isParameter: Bool,
    value: Tensor? = nil
  ) {
    self.name = name
    self.type = type
    self.initializer = initializer
    self.isParameter = isParameter
    self.value = value
  }
}

/// A named function: a graph whose inputs and results have names.
public struct Function: Hashable, Sendable {
  /// The name, alone of its kind in the module.
  public var name: String
  package var graph: Graph

  package init(_ name: String, _ graph: Graph) {
    self.name = name
    self.graph = graph
  }

  /// Name and type of each input, in order.
  public var inputs: [(name: String, type: TensorType)] {
    graph.arguments.filter { $0.kind == .input }.map { ($0.name, $0.type) }
  }

  /// Name and type of each result, in order.
  public var outputs: [(name: String, type: TensorType)] {
    graph.results.map { ($0.name, graph.type($0.value)) }
  }

  /// The names of the state tensors that the function reads.
  public var stateNames: [String] {
    graph.arguments.filter { $0.kind == .state }.map(\.name)
  }
}

/// A model: functions over shared state, with named dimensions that are bound when it is compiled.
///
/// ```swift
/// var module = Module("classifier")
/// module.dimension("n", default: 8)
/// try module.function("forward", training: false) { g in
///   let x = g.input("x", .float32, ["n", 4])
///   g.output("y", g.softmax(Layers(g).linear("out", x, 3)))
/// }
/// let parameters = module.states.map(\.name)  // ["out.w", "out.b"]
/// ```
public struct Module: Hashable, Sendable {
  /// What the module is called; files and listings show it.
  public var name: String
  /// The named dimensions and the sizes they have when nothing else binds them, sorted by name.
  public package(set) var dimensions: [(name: String, size: Int)] = []
  /// Parameters and other state of all functions, in the order of their first use.
  public package(set) var states: [State] = []
  /// The functions, in the order in which they were added.
  public package(set) var functions: [Function] = []
  /// How it is trained, measured and sampled, where it says so.
  public var recipe: Recipe?

  /// A module without functions.
  public init(_ name: String) { self.name = name }

  /// Declares a named dimension with the size that it has when nothing binds it.
  public mutating func dimension(_ name: String, default size: Int) {
    var (low, high) = (0, dimensions.count)
    // Files and texts list them in order.
    if let last = dimensions.last, last.name < name { low = high }
    while low < high {
      let middle = (low + high) / 2
      if dimensions[middle].name < name { low = middle + 1 } else { high = middle }
    }
    if low < dimensions.count, dimensions[low].name == name {
      dimensions[low].size = size
    } else {
      dimensions.insert((name, size), at: low)
    }
  }

  /// Declares named dimensions, none of which is there yet.
  package mutating func addDimensions(_ list: [(name: String, size: Int)]) {
    dimensions = (dimensions + list).sorted { $0.name < $1.name }
  }

  package mutating func add(_ state: State) { states.append(state) }
  package mutating func add(_ function: Function) { functions.append(function) }
  package mutating func removeStates(where isGone: (State) -> Bool) { states.removeAll(where: isGone) }

  /// The function of that name; nil when there is none.
  public func function(_ name: String) -> Function? { functions.first { $0.name == name } }
  /// The state of that name; nil when there is none.
  public func state(_ name: String) -> State? { states.first { $0.name == name } }

  /// Stores a value for a state tensor.
  /// - Throws: `.binding` when there is no such state, or the value's type does not fit it.
  public mutating func setValue(
    _ value: Tensor, of name: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      guard let index = states.firstIndex(where: { $0.name == name }) else {
        throw DLCError(
          .binding, "module '\(self.name)' has no state '\(name)'",
          remedy: Spelling.remedy(for: name, among: states.map(\.name)))
      }
      try value.check()
      let type = states[index].type
      guard type.dataType == value.dataType, type.rank == value.shape.count else {
        throw DLCError(.binding, "state '\(name)' is \(type), the value is \(value.type)")
      }
      states[index].value = value
    } catch {
      throw error.called(file, line)
    }
  }

  /// Sizes for every named dimension: from `explicit`, else from the shapes of the given arrays,
  /// else the module's defaults.
  /// - Throws: `.binding` when two arrays ask for different sizes or a shape does not fit.
  public func bind(
    explicit: [String: Int] = [:],
    arrays: [(name: String, declared: TensorType, shape: [Int])] = [],
    file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) -> [String: Int] {
    do throws(DLCError) {
      var sizes = explicit
      let declared = Set(dimensions.map(\.name))
      for (name, size) in explicit {
        guard declared.contains(name) else {
          throw DLCError(
            .binding, "module '\(self.name)' has no dimension '\(name)'",
            remedy: Spelling.remedy(for: name, among: dimensions.map(\.name)))
        }
        guard size >= 0, size <= TensorType.maximumElementCount else {
          throw DLCError(.binding, "dimension '\(name)' cannot be \(size)")
        }
      }
      var source: [String: String] = [:]
      for array in arrays {
        guard array.shape.count == array.declared.rank, array.shape.allSatisfy({ $0 >= 0 }) else {
          throw DLCError(
            .binding,
            "array '\(array.name)' has shape \(array.shape), '\(array.declared)' is wanted")
        }
        for (dimension, size) in zip(array.declared.shape, array.shape) {
          guard let name = dimension.name else { continue }
          if let known = sizes[name], known != size {
            let origin = source[name].map { "array '\($0)'" } ?? "the sizes given"
            throw DLCError(
              .binding,
              "dimension '\(name)' is \(known) by \(origin) but \(size) by array '\(array.name)'")
          }
          sizes[name] = size
          source[name] = array.name
        }
      }
      for (name, size) in dimensions where sizes[name] == nil { sizes[name] = size }
      for array in arrays {
        for (dimension, size) in zip(array.declared.shape, array.shape) {
          let wanted = try dimension.evaluate(sizes)
          guard wanted == size else {
            let reason =
              dimension.constant == nil
              ? "where \(dimension) is \(wanted)" : "which wants \(wanted)"
            throw DLCError(
              .binding,
              "array '\(array.name)' has shape \(array.shape): \(size) does not fit \(array.declared), \(reason)"
            )
          }
        }
      }
      return sizes
    } catch {
      throw error.called(file, line)
    }
  }

  /// Equal graphs, state with its values, dimensions and recipe.
  public static func == (a: Module, b: Module) -> Bool {
    a.name == b.name && a.states == b.states && a.functions == b.functions
      && a.dimensions.elementsEqual(b.dimensions, by: ==) && a.recipe == b.recipe
  }

  /// Hashes the name and the functions.
  public func hash(into hasher: inout Hasher) {
    hasher.combine(name)
    hasher.combine(functions)
  }
}
