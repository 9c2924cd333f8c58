/// Which axes of a convolution's input, kernel and result are what; each list names every axis of its array once.
/// `g.convolution(x, kernel, dimensions: .channelsLast(spatial: 2))` takes images [n, height, width, c].
public struct ConvolutionDimensions: Hashable, Sendable {
  /// The input's axes: batch, channels, then the spatial ones.
  public var input: [Int]
  /// The kernel's axes: output channels, input channels of a group, then the spatial ones in the input's order.
  public var kernel: [Int]
  /// The result's axes: batch, output channels, then the spatial ones in the input's order.
  public var output: [Int]

  /// Lists of axes, each as the property of its name.
  public init(input: [Int], kernel: [Int], output: [Int]) {
    self.input = input
    self.kernel = kernel
    self.output = output
  }

  /// [n, c, spatial...], [m, c/groups, kernel...] and [n, m, spatial...].
  public static func channelsFirst(spatial: Int) -> ConvolutionDimensions {
    let axes = Array(0..<max(spatial, 0) + 2)
    return ConvolutionDimensions(input: axes, kernel: axes, output: axes)
  }

  /// [n, spatial..., c], [kernel..., c/groups, m] and [n, spatial..., m].
  public static func channelsLast(spatial: Int) -> ConvolutionDimensions {
    let count = max(spatial, 0)
    let axes = [0, count + 1] + Array(1..<count + 1)
    return ConvolutionDimensions(
      input: axes, kernel: [count + 1, count] + Array(0..<count), output: axes)
  }
}

extension Array {
  /// The elements at given places.
  package func picked(_ places: [Int]) -> [Element] { places.map { self[$0] } }

  /// The reverse of `picked` for places that name each one once: element i goes to `places[i]`.
  package func placed(_ places: [Int]) -> [Element] {
    var result = self
    for (element, place) in zip(self, places) { result[place] = element }
    return result
  }
}
