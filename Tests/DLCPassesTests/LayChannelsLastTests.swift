import DLCGraph
import DLCPasses
import DLCTensor
import Testing

@Suite struct LayChannelsLastTests {
  /// A network with what convolutional networks are made of, kernels as parameters.
  private static func network(batch: Int) throws -> Graph {
    try PassCheck.graph { g in
      func kernel(_ name: String, _ shape: [Size]) -> Value {
        g.parameter(name, shape, .zeros, .float32)
      }
      let x = g.input("x", .float32, [Size(batch), 3, 12, 10])
      let stem = g.convolution(x, kernel("stem", [16, 3, 3, 3]), strides: [2, 2])
      var y = g.clamp(stem + g.broadcast(kernel("bias", [16]), to: stem.shape, axes: [1]), 0, 6)
      let wide = g.relu(g.convolution(y, kernel("expand", [32, 16, 1, 1])))
      let framed = g.pad(wide, 0, low: [0, 0, 1, 1], high: [0, 0, 1, 1])
      let deep = g.convolution(framed, kernel("depth", [32, 1, 3, 3]), groups: 32)
      let thin = g.convolution(deep, kernel("project", [16, 32, 1, 1]))
      y = y + thin
      let image = y.shape
      let means = g.mean(y, axes: [2, 3])
      let gates = g.logistic(g.matmul(means, kernel("gates", [16, 16])))
      y = y * g.broadcast(gates, to: image, axes: [0, 1])
      y = g.concatenate([y, thin], axis: 1)
      y = g.slice(y, from: [0, 4, 0, 0], to: [Size(batch), 28, image[2], image[3]])
      y = g.maxPool(y, window: [1, 1, 2, 2], strides: [1, 1, 2, 2])
      y = g.convolution(y, kernel("last", [40, 24, 1, 1]), strides: [2, 1])
      g.output("y", g.sum(y, axes: [2, 3]))
      g.output("image", g.slice(y, from: [0, 0, 0, 0], to: [Size(batch), 40, 1, 1]))
    }
  }

  /// Everything between the image that comes in and the one that goes out has channels last.
  @Test func networksHaveChannelsLast() throws {
    let (after, counts) = try PassCheck.run(
      LayChannelsLast(), try Self.network(batch: 2), isExact: false)
    #expect(counts["channels-last"] == 5)
    let names = try PassCheck.needed(after)
    // One by itself, in depth, and as products.
    #expect(names.count { $0 == "convolution" } == 2)
    #expect(names.count { $0 == "dot_general" } == 4)
    let kernels = after.nodes.filter {
      if case .transpose(let t) = $0.operation { return t.permutation == [2, 3, 1, 0] }
      return false
    }
    #expect(kernels.count == 1)
    // The image that goes out is the only one that is turned.
    #expect(names.count { $0 == "transpose" } == 2)
  }

  /// Images that come and go with channels last are not turned at all, and channels are shuffled where they lie.
  @Test func turnedImagesAndShufflesAreViews() throws {
    let before = try PassCheck.graph { g in
      let x = g.transpose(g.input("x", .float32, [2, 5, 4, 16]), [0, 3, 1, 2])
      let k = g.parameter("k", [32, 16, 1, 1], .zeros, .float32)
      let wide = g.reshape(g.convolution(x, k), [2, 4, 8, 5, 4])
      let shuffled = g.reshape(g.transpose(wide, [0, 2, 1, 3, 4]), [2, 32, 5, 4])
      let depth = g.parameter("depth", [32, 1, 3, 3], .zeros, .float32)
      let y = g.tanh(g.convolution(shuffled, depth, groups: 32))
      g.output("y", g.transpose(y, [0, 2, 3, 1]))
    }
    let (after, counts) = try PassCheck.run(LayChannelsLast(), before, isExact: false)
    #expect(counts["channels-last"] == 2)
    var budget = RewriteBudget()
    let orders = try EliminateDeadCode().run(after, &budget).graph.nodes.compactMap {
      if case .transpose(let t) = $0.operation { return t.permutation }
      return nil
    }
    #expect(Set(orders) == [[0, 1, 2, 4, 3], [2, 3, 1, 0]] && orders.count == 2)
  }

  /// The order of sums must not depend on how many rows there are.
  @Test func theBatchDoesNotMatter() throws {
    for batch in [1, 3, 64] {
      var budget = RewriteBudget()
      let (_, counts) = try LayChannelsLast().run(try Self.network(batch: batch), &budget)
      #expect(counts["channels-last"] == 5)
    }
  }

  private static func fires(_ build: (FunctionBuilder) -> Void) throws -> Bool {
    let (_, counts) = try PassCheck.run(
      LayChannelsLast(), try PassCheck.graph(build), isExact: false)
    return !counts.isEmpty
  }

  @Test func whatDoesNotGainStaysAsItIs() throws {
    let shape: [Size] = [1, 16, 2, 2]
    func pointwise(_ g: FunctionBuilder, _ x: Value, _ name: String) -> Value {
      g.convolution(x, g.parameter(name, [512, 16, 1, 1], .zeros, .float32))
    }
    #expect(
      try Self.fires { g in
        g.output("y", g.sum(pointwise(g, g.input("x", .float32, shape), "k"), axes: [2, 3]))
      })
    // Kernels that change: each run would bring them into order.
    #expect(
      try !Self.fires { g in
        let k = g.input("k", .float32, [512, 16, 1, 1])
        g.output("y", g.sum(g.convolution(g.input("x", .float32, shape), k), axes: [2, 3]))
      })
    // Images that are turned before and after take longer than the product.
    #expect(
      try !Self.fires { g in g.output("y", pointwise(g, g.input("x", .float32, shape), "k")) })
    // Most of the work is in groups, which stay as they are.
    #expect(
      try !Self.fires { g in
        let x = g.input("x", .float32, [1, 32, 5, 5])
        let y = g.convolution(
          x, g.parameter("g", [32, 16, 3, 3], .zeros, .float32), groups: 2)
        let k = g.parameter("k", [16, 32, 1, 1], .zeros, .float32)
        g.output("y", g.sum(g.convolution(y, k), axes: [2, 3]))
      })
  }
}
