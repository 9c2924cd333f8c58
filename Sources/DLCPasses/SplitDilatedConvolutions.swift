package import DLCGraph
package import DLCTensor

/// Takes the zeros out of convolutions over inputs that have zeros between their elements: transposed
/// convolutions, and derivatives of strided ones by their input. With s - 1 zeros in between, every s-th
/// position of the result meets the same taps of the kernel, so that the result is s interleaved
/// convolutions without zeros, each with an s-th of the taps (along every axis).
///
/// Where all of them have equally many taps they are one convolution with s times the channels, whose result is
/// shuffled; and where what is convolved with is greater than the result (a kernel's derivative), the operands change
/// roles, so that one of them moves in steps of s over the other.
package struct SplitDilatedConvolutions: Pass {
  package init() {}
  package var name: String { "split-dilated-convolutions" }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) { try graph.rewritten(Self.rules, &budget) }

  /// More parts than this are not worth their number.
  private static let mostParts = 16

  /// One axis of one part.
  private struct AxisPart {
    /// The first tap, how many there are, and the padding of the input.
    var first: Int
    var taps: Int
    var low: Int
    var high: Int
  }

  /// One spatial axis: the zeros in between and before, the sizes of input, kernel and result.
  private struct Axis {
    var step: Int
    var low: Int
    var input: Int
    var kernel: Int
    var output: Int

    /// Positions of each part.
    var length: Int { (output + step - 1) / step }

    /// The part that gives the positions r, r + step, ...
    func part(_ r: Int) -> AxisPart {
      // The result at step u + r meets the input's element u + j + start by the tap first + step j.
      let first = ((low - r) % step + step) % step
      let taps = first < kernel ? (kernel - first + step - 1) / step : 0
      let start = (r + first - low) / step
      return AxisPart(
        first: first, taps: taps, low: -start, high: length + taps - 1 + start - input)
    }
  }

  package static let rules: RuleTable = [
    RewriteRule("exchange-dilated-operands", at: [.convolution]) { (c, node) throws(DLCError) in
      guard case .convolution(var convolution) = node.operation,
        let axes = axes(c, convolution.geometry, node.operands), convolution.geometry.groups == 1,
        axes.allSatisfy({ $0.kernel > $0.output })
      else { return nil }
      let (x, d) = (c.operation(node.operands[0])!.1[0], node.operands[1])
      guard c.type(x).dataType == c.type(d).dataType else { return nil }
      // The result at t meets the element u of x by that of d at low + s u - t: from its other end, in steps of s.
      let dimensions = convolution.geometry.dimensions
      let low = axes.map { $0.output - 1 - $0.low }
      let high = zip(axes, low).map { axis, low in
        axis.output + axis.step * (axis.input - 1) - axis.kernel - low
      }
      let padded = try c.add(
        .pad(
          Pad(
            low: ([0, 0] + low.map { Size($0) }).placed(dimensions.kernel),
            high: ([0, 0] + high.map { Size($0) }).placed(dimensions.kernel),
            interior: dimensions.kernel.map { _ in 0 })),
        [d, try c.constant(0, c.type(d).dataType)])
      convolution.geometry.kernelDilation = axes.map(\.step)
      convolution.geometry.dimensions = ConvolutionDimensions(
        input: dimensions.kernel, kernel: dimensions.input,
        output: [dimensions.output[1], dimensions.output[0]] + dimensions.output[2...])
      let result = try c.add(.convolution(convolution), [padded, x])
      return try c.add(.reverse(Reverse(Array(dimensions.output[2...]))), [result])
    },
    RewriteRule("shuffle-dilated-convolution", at: [.convolution]) { (c, node) throws(DLCError) in
      guard case .convolution(let convolution) = node.operation,
        let axes = axes(c, convolution.geometry, node.operands)
      else { return nil }
      return try shuffled(&c, node, convolution, axes)
    },
    RewriteRule("split-dilated-convolution", at: [.convolution]) { (c, node) throws(DLCError) in
      guard case .convolution(let convolution) = node.operation,
        let axes = axes(c, convolution.geometry, node.operands)
      else { return nil }
      let x = c.operation(node.operands[0])!.1[0]
      let (input, kernel) = (c.type(x), c.type(node.operands[1]))
      let dimensions = convolution.geometry.dimensions
      let (batch, channels) = (
        input.shape[dimensions.input[0]], kernel.shape[dimensions.kernel[0]]
      )
      // The parts have the usual axes; where they are joined, the result takes its own.
      let usual = ConvolutionDimensions.channelsFirst(spatial: axes.count).output
      var part = convolution
      part.geometry.dimensions.output = usual
      let zero = try c.constant(0, input.dataType)
      let shape: [Size] = [batch, channels] + axes.map { Size($0.length) }
      let apart: [Size] = [batch, channels] + axes.flatMap { [Size($0.length), Size(1)] }

      /// The parts from `numbers` on, interleaved along the axes after them.
      func parts(_ c: inout RewriteContext, _ numbers: [Int]) throws(DLCError) -> ValueID {
        if numbers.count < axes.count {
          var list: [ValueID] = []
          for r in 0..<axes[numbers.count].step { list.append(try parts(&c, numbers + [r])) }
          if list.count == 1 { return list[0] }
          return try c.add(.concatenate(Concatenate(axis: 2 * numbers.count + 3)), list)
        }
        let own = zip(axes, numbers).map { $0.part($1) }
        guard own.allSatisfy({ $0.taps > 0 }) else {
          let none = try c.constant(0, c.resultTypes[0].dataType)
          return try c.add(.broadcast(Broadcast(apart, axes: [])), [none])
        }
        let padded = try c.add(
          .pad(
            Pad(
              low: ([0, 0] + own.map { Size($0.low) }).placed(dimensions.input),
              high: ([0, 0] + own.map { Size($0.high) }).placed(dimensions.input),
              interior: usual.map { _ in 0 })), [x, zero])
        let taps = try c.add(
          .slice(
            Slice(
              ([0, 0] + own.map { Size($0.first) }).placed(dimensions.kernel), kernel.shape,
              strides: ([1, 1] + axes.map(\.step)).placed(dimensions.kernel))),
          [node.operands[1]])
        let result = try c.add(.convolution(part), [padded, taps])
        guard c.type(result).shape == shape else {
          throw DLCError(.graph, "a part of a convolution is \(c.type(result)), not \(shape)")
        }
        return try c.add(.reshape(Reshape(apart)), [result])
      }
      let all = try parts(&c, [])
      let whole: [Size] = [batch, channels] + axes.map { Size($0.length * $0.step) }
      var joined = try c.add(.reshape(Reshape(whole)), [all])
      let wanted: [Size] = [batch, channels] + axes.map { Size($0.output) }
      if whole != wanted {
        let cut = Slice(whole.map { _ in 0 }, wanted, strides: whole.map { _ in 1 })
        joined = try c.add(.slice(cut), [joined])
      }
      if dimensions.output == usual { return joined }
      return try c.add(.transpose(Transpose(usual.placed(dimensions.output))), [joined])
    }
  ]

  /// One convolution for all parts, if they have equally many taps: the parts are channels of its result, all of the
  /// same places of the input. To that end the result begins so far ahead that the first part has the last tap.
  private static func shuffled(
    _ c: inout RewriteContext, _ node: Node, _ convolution: Convolution, _ axes: [Axis]
  ) throws(DLCError) -> ValueID? {
    let ahead = axes.map { $0.step - 1 - (($0.low % $0.step) + $0.step) % $0.step }
    let long = zip(axes, ahead).map { axis, ahead in
      Axis(
        step: axis.step, low: axis.low + ahead, input: axis.input, kernel: axis.kernel,
        output: axis.output + ahead)
    }
    let places = { (axes: [Axis]) in axes.reduce(1) { $0 * $1.length } }
    let parts = long.map { $0.part(0) }
    guard convolution.geometry.groups == 1, axes.allSatisfy({ $0.kernel % $0.step == 0 }),
      parts.contains(where: { $0.taps > 1 }), 2 * places(long) <= 3 * places(axes)
    else { return nil }
    let (x, spatial) = (c.operation(node.operands[0])!.1[0], axes.indices)
    let dimensions = convolution.geometry.dimensions
    let usual = ConvolutionDimensions.channelsFirst(spatial: axes.count)
    let kernel = c.type(node.operands[1]).shape.picked(dimensions.kernel)
    let batch = c.type(x).shape[dimensions.input[0]]
    let padded = try c.add(
      .pad(
        Pad(
          low: ([0, 0] + parts.map { Size($0.low) }).placed(dimensions.input),
          high: ([0, 0] + parts.map { Size($0.high) }).placed(dimensions.input),
          interior: usual.input.map { _ in 0 })), [x, try c.constant(0, c.type(x).dataType)])
    // [m, c, taps s...] as [s..., m, c, taps...], the last tap of each s first.
    let ordered = try c.add(.transpose(Transpose(dimensions.kernel)), [node.operands[1]])
    let apart = try c.add(
      .reshape(
        Reshape(
          Array(kernel[..<2]) + spatial.flatMap { [Size(parts[$0].taps), Size(axes[$0].step)] })),
      [ordered])
    let moved = try c.add(
      .transpose(Transpose(spatial.map { 2 * $0 + 3 } + [0, 1] + spatial.map { 2 * $0 + 2 })),
      [apart])
    let turned = try c.add(.reverse(Reverse(Array(spatial))), [moved])
    let count = Size(axes.reduce(1) { $0 * $1.step })
    let taps = try c.add(
      .reshape(Reshape([count * kernel[0], kernel[1]] + parts.map { Size($0.taps) })), [turned])
    var joint = convolution
    joint.geometry.dimensions = ConvolutionDimensions(
      input: dimensions.input, kernel: usual.kernel, output: usual.output)
    let result = try c.add(.convolution(joint), [padded, taps])
    // [n, s... m, places...] as [n, m, places s ...]: pieces of the last axis that has several, side by side.
    let steps = axes.map { Size($0.step) }
    let lengths = long.map { Size($0.length) }
    let split = try c.add(
      .reshape(Reshape([batch] + steps + [kernel[0]] + lengths)), [result])
    let last = axes.lastIndex { $0.step > 1 }!
    var pieces: [ValueID] = []
    for r in 0..<axes[last].step {
      let shape = c.type(split).shape
      var (first, end) = (shape.map { _ in Size(0) }, shape)
      (first[last + 1], end[last + 1]) = (Size(r), Size(r + 1))
      let part = try c.add(.slice(Slice(first, end, strides: shape.map { _ in 1 })), [split])
      pieces.append(
        try c.add(
          .transpose(
            Transpose(
              [0, axes.count + 1] + spatial.flatMap { [axes.count + 2 + $0, $0 + 1] })), [part]))
    }
    let all = try c.add(.concatenate(Concatenate(axis: 2 * last + 3)), pieces)
    let whole: [Size] = [batch, kernel[0]] + long.map { Size($0.length * $0.step) }
    let joined = try c.add(.reshape(Reshape(whole)), [all])
    let start: [Size] = [0, 0] + ahead.map { Size($0) }
    let wanted = [batch, kernel[0]] + long.map { Size($0.output) }
    let cut = try c.add(.slice(Slice(start, wanted, strides: whole.map { _ in 1 })), [joined])
    if dimensions.output == usual.output { return cut }
    return try c.add(.transpose(Transpose(usual.output.placed(dimensions.output))), [cut])
  }

  /// The spatial axes of a convolution that the rule takes apart; nil when it does not.
  private static func axes(
    _ c: RewriteContext, _ g: ConvolutionGeometry, _ operands: [ValueID]
  ) -> [Axis]? {
    guard let (operation, inner) = c.operation(operands[0]), case .pad(let pad) = operation,
      c.isSplat(inner[1], 0),
      (g.strides + g.kernelDilation + g.inputDilation).allSatisfy({ $0 == 1 }),
      (g.paddingLow + g.paddingHigh).allSatisfy({ $0 == 0 }),
      g.dimensions.input[..<2].allSatisfy({
        pad.interior[$0] == 0 && pad.low[$0] == 0 && pad.high[$0] == 0
      }), pad.interior.contains(where: { $0 > 0 }),
      pad.interior.reduce(1, { $0 * ($1 + 1) }) <= mostParts
    else { return nil }
    let (input, kernel) = (c.type(inner[0]), c.type(operands[1]))
    let padded = c.type(operands[0])
    guard input.isStatic, kernel.isStatic else { return nil }
    var axes: [Axis] = []
    for (axis, tap) in zip(g.dimensions.input, g.dimensions.kernel).dropFirst(2) {
      guard let low = pad.low[axis].constant else { return nil }
      let size = kernel.sizes[tap]
      axes.append(
        Axis(
          step: pad.interior[axis] + 1, low: low, input: input.sizes[axis], kernel: size,
          output: padded.sizes[axis] - size + 1))
    }
    // Nothing is to be gained from what is empty.
    return axes.allSatisfy { $0.output > 0 && $0.input > 0 && $0.kernel > 0 } ? axes : nil
  }
}
