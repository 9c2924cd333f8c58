package import DLCGraph
package import DLCTensor

/// Lays the images of convolutional networks out with their channels side by side, [n, h, w, c] in place of
/// [n, c, h, w], through the whole graph.
///
/// A convolution with 1x1 kernels is a plain product then, whose left operand is read where it lies; a depthwise one
/// has channels in lanes, without lines that end inside of a vector; and a pad moves whole pixels. What stands between
/// them (activations, sums, pads, pools) is computed in the same layout, so that transposes are left only where images
/// come in or go out. Kernels must be steady: they are brought into order once.
package struct LayChannelsLast: Pass {
  package init() {}
  package var name: String { "lay-channels-last" }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) {
    var layout = ChannelsLastLayout(graph)
    guard layout.mayBeWorthwhile else { return (graph, [:]) }
    let result = try layout.run()
    guard layout.gain > layout.price, budget.take() else { return (graph, [:]) }
    return (result, ["channels-last": layout.count])
  }
}

/// The new form of one graph, as it grows.
private struct ChannelsLastLayout {
  private let graph: Graph
  private var properties: ValueProperties
  private var out = Graph()
  /// Values of the old graph with axes as they were, and with channels last; one may be here, there, or in both.
  private var first: [ValueID: ValueID] = [:]
  private var last: [ValueID: ValueID] = [:]
  /// Values [n, g, c/g, h, w] as [n, h, w, g, c/g]: images on the way to being shuffled.
  private var split: [ValueID: ValueID] = [:]
  /// Convolutions that have channels last.
  private(set) var count = 0
  /// Roughly, cycles that convolutions take less, and what transposes take. Both grow with the batch alike: it does not
  /// decide, as the order of sums depends on the layout.
  private(set) var gain = 0.0
  private(set) var price = 0.0

  /// What the axes of [n, h, w, c] are in [n, c, h, w], and the reverse.
  private static let toLast = [0, 2, 3, 1]
  private static let toFirst = [0, 3, 1, 2]

  init(_ graph: Graph) {
    self.graph = graph
    properties = ValueProperties(of: graph)
  }

  // MARK: Which graphs

  /// How a convolution is computed with channels last.
  private enum Form {
    /// Every pixel by a matrix.
    case pointwise
    /// Every channel, or small group of channels, by itself.
    case depthwise
    /// Runs of pixels by larger kernels.
    case window
    /// Whatever its lowering does.
    case other

    /// Roughly, cycles that a multiply-add takes less.
    var gain: Double {
      switch self {
      case .pointwise: 0.008
      case .depthwise: 0.04
      case .window: 0.004
      case .other: 0
      }
    }
  }

  /// nil for what stays as it is.
  private mutating func form(_ node: Node) -> (form: Form, geometry: ConvolutionGeometry)? {
    guard case .convolution(let convolution) = node.operation, convolution.sumType == nil,
      convolution.geometry.dimensions == .channelsFirst(spatial: 2),
      node.operands.allSatisfy({ graph.type($0).isStatic && graph.type($0).dataType == .float32 }),
      properties.isSteady(node.operands[1], in: graph),
      !properties.isSteady(node.operands[0], in: graph)
    else { return nil }
    let g = convolution.geometry
    let (x, k) = (graph.type(node.operands[0]).sizes, graph.type(node.operands[1]).sizes)
    let isPlain =
      (g.paddingLow + g.paddingHigh).allSatisfy { $0 == 0 } && g.inputDilation == [1, 1]
    if isPlain, g.groups == 1, k[2...] == [1, 1], x[1] >= 8, k[0] >= 8 { return (.pointwise, g) }
    if isPlain, g.hasSmallGroups(k), x[1] >= 8 { return (.depthwise, g) }
    if isPlain, g.groups == 1, x[1] >= 16, k[0] >= 16 { return (.window, g) }
    return (.other, g)
  }

  /// Multiply-adds of a convolution.
  private func work(_ node: Node) -> Double {
    let kernel = graph.type(node.operands[1]).sizes
    return Double(graph.type(node.results[0]).elementCount)
      * Double(kernel.dropFirst().reduce(1, *))
  }

  /// Whether most of the work of its convolutions can be done with channels last.
  var mayBeWorthwhile: Bool {
    mutating get {
      var (moved, all) = (0.0, 0.0)
      for node in graph.nodes {
        guard case .convolution = node.operation,
          node.operands.allSatisfy({ graph.type($0).isStatic })
        else { continue }
        let work = work(node)
        all += work
        if let form = form(node)?.form, form != .other { moved += work }
      }
      return moved > 0.7 * all
    }
  }

  // MARK: Values

  /// Some three cycles for an element that is read or written across.
  private mutating func cross(_ value: ValueID) {
    if properties.isSteady(value, in: graph) { return }
    price += 3 * Double(graph.type(value).elementCount)
  }

  private mutating func asFirst(_ value: ValueID) throws(DLCError) -> ValueID {
    if let known = first[value] { return known }
    let (moved, order) = last[value].map { ($0, Self.toFirst) } ?? (split[value]!, [0, 3, 4, 1, 2])
    let made = try out.append(.transpose(Transpose(order)), [moved])[0]
    cross(value)
    first[value] = made
    return made
  }

  private mutating func asLast(_ value: ValueID) throws(DLCError) -> ValueID {
    if let known = last[value] { return known }
    var made = try broadcast(value)
    if made == nil {
      made = try out.append(.transpose(Transpose(Self.toLast)), [first[value]!])[0]
      cross(value)
    }
    last[value] = made
    return made!
  }

  /// What is broadcast to images is broadcast to those of the new layout.
  private mutating func broadcast(_ value: ValueID) throws(DLCError) -> ValueID? {
    guard let node = graph.definition(value), case .broadcast(let old) = node.operation else {
      return nil
    }
    let (operand, shape) = (node.operands[0], old.shape.picked(Self.toLast))
    if old.axes.count == 4 {
      return try out.append(.broadcast(Broadcast(shape, axes: old.axes)), [try asLast(operand)])[0]
    }
    let axes = old.axes.map { Self.toFirst[$0] }
    guard axes == axes.sorted() else { return nil }
    return try out.append(.broadcast(Broadcast(shape, axes: axes)), [try asFirst(operand)])[0]
  }

  /// A kernel [m, c, h, w] as [h, w, c, m], copied once.
  private mutating func kernel(_ value: ValueID) throws(DLCError) -> ValueID {
    let moved = try out.append(.transpose(Transpose([2, 3, 1, 0])), [try asFirst(value)])[0]
    return try out.append(.convert(Convert(graph.type(value).dataType)), [moved])[0]
  }

  // MARK: The sweep

  mutating func run() throws(DLCError) -> Graph {
    for (argument, value) in zip(graph.arguments, graph.argumentValues) {
      first[value] = out.addArgument(argument)
    }
    for node in graph.nodes {
      if try move(node) { continue }
      var operands: [ValueID] = []
      for operand in node.operands { operands.append(try asFirst(operand)) }
      for (old, new) in zip(node.results, try append(node, node.operation, operands)) {
        first[old] = new
      }
    }
    for result in graph.results {
      out.results.append(NamedValue(result.name, try asFirst(result.value)))
    }
    for update in graph.updates {
      out.updates.append(NamedValue(update.name, try asFirst(update.value)))
    }
    return out
  }

  private mutating func append(_ node: Node, _ operation: Operation, _ operands: [ValueID])
    throws(DLCError) -> [ValueID]
  {
    try out.append(operation, operands, name: node.name, location: node.location)
  }

  /// Adds a node that has channels last; false for one that is computed as it was.
  private mutating func move(_ node: Node) throws(DLCError) -> Bool {
    if let (form, geometry) = form(node) {
      count += 1
      gain += form.gain * work(node)
      last[node.results[0]] = try convolution(node, form, geometry)
      return true
    }
    if case .reduce(let old) = node.operation, let images = last[node.operands[0]],
      old.axes.sorted() == [2, 3]
    {
      // Over pixels what is left has its old order.
      let reduce = Operation.reduce(Reduce(old.combiner, axes: [1, 2]))
      first[node.results[0]] = try append(node, reduce, [images])[0]
      return true
    }
    if try turn(node) { return true }
    guard node.results.count == 1, node.operands.contains(where: { last[$0] != nil }),
      let made = try elements(node)
    else { return false }
    last[node.results[0]] = made
    return true
  }

  /// Transposes that turn images themselves, which are nothing then, and shuffles of channels.
  private mutating func turn(_ node: Node) throws(DLCError) -> Bool {
    guard let operand = node.operands.first, let result = node.results.first else { return false }
    let (from, to) = (graph.type(operand).shape, graph.type(result).shape)
    switch node.operation {
    case .transpose(let t) where t.permutation == Self.toLast && last[operand] != nil:
      first[result] = last[operand]
    case .transpose(let t) where t.permutation == Self.toFirst && first[operand] != nil:
      last[result] = first[operand]
    case .reshape where from.count == 4 && to.count == 5 && last[operand] != nil:
      guard from[0] == to[0], from[2...] == to[3...] else { return false }
      let shape = to.picked([0, 3, 4, 1, 2])
      split[result] = try append(node, .reshape(Reshape(shape)), [last[operand]!])[0]
    case .transpose(let t) where t.permutation == [0, 2, 1, 3, 4] && split[operand] != nil:
      let turned = Operation.transpose(Transpose([0, 1, 2, 4, 3]))
      split[result] = try append(node, turned, [split[operand]!])[0]
    case .reshape where from.count == 5 && to.count == 4 && split[operand] != nil:
      guard from[0] == to[0], from[3...] == to[2...] else { return false }
      let shape = to.picked(Self.toLast)
      last[result] = try append(node, .reshape(Reshape(shape)), [split[operand]!])[0]
    default: return false
    }
    return true
  }

  /// What moves or maps the elements of images with channels last; nil for other nodes.
  private mutating func elements(_ node: Node) throws(DLCError) -> ValueID? {
    let images = last[node.operands[0]]
    switch node.operation {
    case .unary, .binary, .compare, .select, .clamp, .convert, .concatenate:
      guard graph.type(node.results[0]).rank == 4 else { return nil }
      var operands: [ValueID] = []
      for operand in node.operands {
        operands.append(
          graph.type(operand).rank == 4 ? try asLast(operand) : try asFirst(operand))
      }
      var operation = node.operation
      if case .concatenate(let old) = operation {
        operation = .concatenate(Concatenate(axis: Self.toFirst[old.axis]))
      }
      return try append(node, operation, operands)[0]
    case .pad(let old):
      guard let images else { return nil }
      let pad = Pad(
        low: old.low.picked(Self.toLast), high: old.high.picked(Self.toLast),
        interior: old.interior.picked(Self.toLast))
      return try append(node, .pad(pad), [images, try asFirst(node.operands[1])])[0]
    case .slice(let old):
      let slice = Slice(
        old.starts.picked(Self.toLast), old.limits.picked(Self.toLast),
        strides: old.strides.picked(Self.toLast))
      return try append(node, .slice(slice), [images!])[0]
    case .reduceWindow(let old):
      var g = old.geometry
      for list in [\WindowGeometry.window, \.strides, \.dilation, \.paddingLow, \.paddingHigh] {
        g[keyPath: list] = g[keyPath: list].picked(Self.toLast)
      }
      return try append(node, .reduceWindow(ReduceWindow(g)), [images!])[0]
    default: return nil
    }
  }

  private mutating func convolution(_ node: Node, _ form: Form, _ geometry: ConvolutionGeometry)
    throws(DLCError) -> ValueID
  {
    var g = geometry
    let (x, k) = (node.operands[0], node.operands[1])
    switch form {
    case .pointwise:
      var input = try asLast(x)
      let (sizes, kernel) = (out.type(input).shape, out.type(try asFirst(k)).shape)
      if g.strides != [1, 1] {
        input = try append(
          node,
          .slice(
            Slice(
              sizes.map { _ in 0 }, sizes, strides: [1] + g.strides + [1])), [input])[0]
      }
      let matrix = try append(
        node, .reshape(Reshape(Array(kernel[..<2]))), [try asFirst(k)])[0]
      return try append(
        node, .dotGeneral(DotGeneral(lhsContracting: [3], rhsContracting: [1])), [input, matrix])[0]
    case .depthwise:
      g.dimensions = .channelsLast(spatial: 2)
      return try append(
        node, .convolution(Convolution(g)), [try asLast(x), try kernel(k)])[0]
    case .window, .other:
      // What gathers its columns one by one reads images that come in as they are.
      let input = form == .window || last[x] != nil ? try asLast(x) : try asFirst(x)
      g.dimensions.output = ConvolutionDimensions.channelsLast(spatial: 2).output
      if last[x] != nil { g.dimensions.input = g.dimensions.output }
      return try append(node, .convolution(Convolution(g)), [input, try asFirst(k)])[0]
    }
  }
}
