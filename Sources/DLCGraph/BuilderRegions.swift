package import DLCTensor

/// Graphs inside of the graph that is built, and values that go from one to the other.
extension FunctionBuilder {
  /// The value in this graph, for one that is reached: a value from around a region is captured by its
  /// first use. Constants are repeated instead.
  func local(_ outside: Value) -> Value? {
    if outside.builder === self { return outside }
    guard let outer = parent?.local(outside) else { return nil }
    if let known = captures[outer.id] { return known }
    if let copy = repeated(outer) { return copy }
    let argument = Argument(.captured, "k\(capturedValues.count)", outer.type)
    let inner = value(graph.addArgument(argument))
    capturedValues.append(outer)
    captures[outer.id] = inner
    return inner
  }

  /// The value from around the region that one of its captured arguments stands for.
  package func outside(_ value: Value) -> Value? {
    guard value.builder === self, let position = graph.argumentValues.firstIndex(of: value.id),
      graph.arguments[position].kind == .captured
    else { return nil }
    let number = graph.arguments[..<position].count { $0.kind == .captured }
    return capturedValues[number]
  }

  private func repeated(_ outer: Value) -> Value? {
    guard let node = outer.builder.graph.definition(outer.id) else { return nil }
    var operands: [ValueID] = []
    switch node.operation {
    case .constant(let c) where c.value.count > 16: return nil
    case .constant, .dimension, .iota: break
    case .broadcast:
      guard let inner = repeated(outer.builder.value(node.operands[0])) else { return nil }
      operands = [inner.id]
    default: return nil
    }
    guard
      let made = try? graph.append(
        node.operation, operands, name: node.name, location: node.location)
    else { return nil }
    let copy = value(made[0])
    captures[outer.id] = copy
    return copy
  }

  /// Builds the graph of a region.
  /// - Parameters:
  ///   - inputs: types of the region's arguments; nil for one that stands for a poisoned value.
  ///   - isOutermost: whether `body` is the user's own code.
  /// - Returns: the graph, the values that it captures, and how many results it has; no graph after a
  ///   mistake.
  package func region(
    _ inputs: [TensorType?], isOutermost: Bool = false,
    _ body: (FunctionBuilder, [Value]) -> [Value]
  ) -> (graph: Graph?, captured: [Value], count: Int) {
    let inner = FunctionBuilder(inside: current)
    guard !session.isFinished else {
      return (nil, [], body(inner, inputs.map { _ in poison }).count)
    }
    session.regions.append(inner)
    defer { session.regions.removeLast() }
    let arguments = inputs.enumerated().map { number, type in
      guard let type else { return inner.poison }
      return inner.value(inner.graph.addArgument(Argument(.input, "a\(number)", type)))
    }
    let results =
      isOutermost
      ? session.replacing(nil) { body(inner, arguments) } : body(inner, arguments)
    var isWhole = !inputs.contains(nil)
    for (number, result) in results.enumerated() {
      do throws(DLCError) {
        guard try inner.reaches(result) else {
          isWhole = false
          continue
        }
        inner.graph.results.append(NamedValue("r\(number)", inner.local(result)!.id))
      } catch {
        inner.fail(error)
        isWhole = false
      }
    }
    guard isWhole else { return (nil, [], results.count) }
    do throws(DLCError) {
      return (try inner.graph.normalized(), inner.capturedValues, results.count)
    } catch {
      inner.fail(error)
      return (nil, [], results.count)
    }
  }

  /// The values in the graph that is being built now, for a derivative by `targets` in it.
  /// - Throws: when they depend on one another around the open region, where this derivative does not
  ///   see it.
  package func inside(_ values: [Value], targets: [Value]) throws(DLCError) -> [Value] {
    for value in values
    where value.builder !== self && !targets.contains(where: { $0.id == value.id }) {
      throw DLCError(
        .graph, "a value from around a loop or branch is differentiated inside of it",
        remedy: "take its derivative outside")
    }
    let mine = values.map { local($0)! }
    for target in targets where target.builder !== self {
      var builder = self
      while builder !== target.builder, let parent = builder.parent {
        let start = parent.local(target)!.id
        let reached = parent.graph.dependents(of: start)
        if builder.capturedValues.contains(where: { $0.id != start && reached.contains($0.id) }) {
          throw DLCError(
            .graph,
            "a derivative inside a loop or branch is by a value that others from around it depend on",
            remedy: "compute them inside, or take the derivative outside")
        }
        builder = parent
      }
    }
    return mine
  }

  /// Adds a graph with values for its arguments, in their order.
  /// - Returns: its results and updates by name; empty after a mistake.
  package func inline(_ graph: Graph, _ arguments: [Value]) -> (
    results: [String: Value], updates: [String: Value]
  ) {
    let builder = current
    var map: [ValueID: ValueID] = [:]
    do throws(DLCError) {
      for (id, value) in zip(graph.argumentValues, arguments) {
        guard try builder.reaches(value) else { return ([:], [:]) }
        map[id] = builder.local(value)!.id
      }
      for node in graph.nodes {
        let made = try builder.graph.append(
          node.operation, node.operands.map { map[$0] ?? ValueID(-1) }, name: node.name,
          location: node.location)
        for (old, new) in zip(node.results, made) { map[old] = new }
      }
    } catch {
      builder.fail(error)
      return ([:], [:])
    }
    func named(_ list: [NamedValue]) -> [String: Value] {
      Dictionary(
        list.map { ($0.name, builder.value(map[$0.value]!)) }, uniquingKeysWith: { a, _ in a })
    }
    return (named(graph.results), named(graph.updates))
  }
}
