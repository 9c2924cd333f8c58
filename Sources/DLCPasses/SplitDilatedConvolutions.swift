package import DLCGraph
package import DLCTensor

/// Takes the zeros out of convolutions over inputs that have zeros between their elements: transposed
/// convolutions, and derivatives of strided ones by their input. With s - 1 zeros in between, every s-th
/// position of the result meets the same taps of the kernel, so that the result is s interleaved
/// convolutions without zeros, each with an s-th of the taps (along every axis).
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
