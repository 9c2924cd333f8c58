import DLCGraph
import DLCKernel
import DLCTensor

/// Writes the kernel of a convolution of images [n, h, w, c] in small groups of channels, or single ones, by a kernel
/// [h, w, c/groups, c]: channels are in lanes, and some pixels of a line are summed side by side, so that weights are
/// loaded once for all of them and what neighbours share is loaded once.
///
/// Each element is one chain of sums over lines of the kernel, channels of a group, and columns.
struct DepthwiseLowering {
  private let region: Region
  private let node: Node
  private let geometry: ConvolutionGeometry
  private let schedule: ConvolutionSchedule
  private let graph: Graph
  private let target: Target
  private let type: DataType
  // [n, h, w, c] and [n, y, x, c], and the kernel's lines and columns.
  private let input: [Int]
  private let output: [Int]
  private let taps: [Int]
  /// Channels of a group.
  private let depth: Int

  init(
    _ region: Region, _ node: Node, _ geometry: ConvolutionGeometry,
    _ schedule: ConvolutionSchedule, _ graph: Graph, _ target: Target
  ) {
    self.region = region
    self.node = node
    self.geometry = geometry
    self.schedule = schedule
    self.graph = graph
    self.target = target
    type = graph.type(node.results[0]).dataType
    input = graph.sizes(node.operands[0])
    output = graph.sizes(node.results[0])
    taps = Array(graph.sizes(node.operands[1])[..<2])
    depth = graph.sizes(node.operands[1])[2]
  }

  /// More sums than this are not written out, but for the columns of a line of the kernel.
  private static let mostSums = 256

  func lower() -> LoweredRegion {
    var lowered = LoweredRegion(calls: [], temporaries: [])
    var e = RegionEvaluator(graph, region)
    let operands = zip(node.operands, schedule.copies).map {
      e.operand($0, $1, target, &lowered.calls, &lowered.temporaries)
    }
    let image = e.tile(output[0])
    let lines = e.tiles(output[1], size: max(1, schedule.columnBlock / output[2]))
    let channels = e.tiles(output[3], size: schedule.rowBlock)
    let side = schedule.tile.rows
    // Much that follows does not fit into registers beside the sums: they wait in memory.
    let buffer = schedule.keepsSums ? e.local(type, side * schedule.rowBlock) : nil
    e.each(output[1], block: lines) { e, line in
      let (whole, rest) = (output[2] / side, output[2] % side)
      let corner = (image, line)
      e.each(whole) { e, block in
        pixels(&e, corner, block * side, count: side, channels, operands, buffer)
      }
      if rest > 0 {
        pixels(&e, corner, IndexExpression(whole * side), count: rest, channels, operands, buffer)
      }
    }
    lowered.calls.append(
      e.call("depthwise", type, target, flops: 2 * output.reduce(1, *) * taps.reduce(1, *) * depth))
    return lowered
  }

  /// Some pixels of a line from a column on, in all channels of the tile.
  private func pixels(
    _ e: inout RegionEvaluator, _ at: (image: IndexExpression, line: IndexExpression),
    _ first: IndexExpression, count: Int, _ channels: BlockExtent, _ operands: [Memory],
    _ buffer: Memory?
  ) {
    let start = IndexExpression(channels.index!) * channels.size
    e.each(output[3], .vector(unroll: 1), block: channels) { e, channel in
      var sums: [ScalarID]
      if taps[0] * taps[1] * depth * count <= Self.mostSums {
        let zero = e.number(0, type)
        sums = [ScalarID](repeating: zero, count: count)
        for tap in 0..<taps[0] {
          sums = line(&e, IndexExpression(tap), sums, at, first, channel, operands)
        }
      } else {
        let carried = (0..<count).map { _ in Carried(type, initial: .float(0)) }
        let isLong = depth > Self.mostChannels
        sums = e.loop(isLong ? taps[0] * depth : taps[0], carried) { e, turn, sums in
          isLong
            ? line(
              &e, turn.quotient(depth), turn.remainder(depth), sums, at, first, channel, operands)
            : line(&e, turn, sums, at, first, channel, operands)
        }
      }
      for (pixel, sum) in sums.enumerated() {
        if let buffer {
          e.store(buffer, channel - start + pixel * schedule.rowBlock, sum, type)
          continue
        }
        let place = [at.image, at.line, first + pixel, channel]
        e.remember(node.results[0], place, sum)
        e.storeOutputs(place)
      }
    }
    guard let buffer else { return }
    let (pixel, channel) = (e.variable(count), e.variable(output[3]))
    let place =
      IndexExpression(pixel) * schedule.rowBlock + IndexExpression(channel) - start
    e.resident[node.results[0]] = (buffer, { _ in place })
    e.each(pixel) { e, pixel in
      e.each(channel, .vector(unroll: schedule.epilogueUnroll), block: channels) { e, channel in
        e.storeOutputs([at.image, at.line, first + pixel, channel])
      }
    }
    e.resident[node.results[0]] = nil
  }

  /// Groups of more channels are not written out.
  private static let mostChannels = 8

  /// Adds what a line of the kernel gives to the sums of neighbouring pixels.
  private func line(
    _ e: inout RegionEvaluator, _ tap: IndexExpression, _ sums: [ScalarID],
    _ at: (image: IndexExpression, line: IndexExpression), _ first: IndexExpression,
    _ channel: IndexExpression, _ operands: [Memory]
  ) -> [ScalarID] {
    (0..<depth).reduce(sums) { sums, element in
      line(&e, tap, IndexExpression(element), sums, at, first, channel, operands)
    }
  }

  /// What one channel of each group gives.
  private func line(
    _ e: inout RegionEvaluator, _ tap: IndexExpression, _ element: IndexExpression,
    _ sums: [ScalarID], _ at: (image: IndexExpression, line: IndexExpression),
    _ first: IndexExpression, _ channel: IndexExpression, _ operands: [Memory]
  ) -> [ScalarID] {
    let (strides, dilation) = (geometry.strides, geometry.kernelDilation)
    let row = at.image * input[1] + at.line * strides[0] + tap * dilation[0]
    let start =
      (row * input[2] + first * strides[1]) * input[3]
      + (depth == 1 ? channel : channel.quotient(depth) * depth + element)
    // What several pixels meet is loaded once.
    var loaded: [Int: ScalarID] = [:]
    var sums = sums
    for column in 0..<taps[1] {
      let weight = e.load(
        operands[1], ((tap * taps[1] + column) * depth + element) * input[3] + channel, type)
      for pixel in sums.indices {
        let offset = pixel * strides[1] + column * dilation[1]
        let element = loaded[offset] ?? e.load(operands[0], start + offset * input[3], type)
        loaded[offset] = element
        sums[pixel] = e.define(.multiplyAdd(type, [element, weight, sums[pixel]]))
      }
    }
    return sums
  }
}
