import DLC

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The main job: runs the compiled digit classifier on the test images and shows what it sees.
@main enum Digits {
  static func main() {
    let arguments = CommandLine.arguments
    guard arguments.count == 5 else {
      print("usage: dlc-digits PROGRAM.dlc WEIGHTS.safetensors TEST.npz EXPECTED.npz")
      return
    }
    do { try run(arguments[1], arguments[2], arguments[3], arguments[4]) } catch {
      print("dlc: error: \(error)")
      exit(1)
    }
  }

  static func run(_ program: String, _ weights: String, _ data: String, _ expected: String)
    throws(DLCError)
  {
    let clock = ContinuousClock()
    let executable = try Executable(contentsOf: program)
    var state: [String: Tensor] = [:]
    for (name, value) in try Safetensors.read(weights) { state[name] = value }
    try executable.setState(state)
    var arrays: [String: Tensor] = [:]
    for (name, value) in try Npz.read(data) { arrays[name] = value }
    guard let images = arrays["images"], let labels = arrays["labels"]?.integers else {
      throw DLCError(.binding, "the test data has no 'images' and 'labels'", at: data)
    }
    _ = try executable.run(["images": images])
    let start = clock.now
    let results = try executable.run(["images": images])
    let elapsed = (clock.now - start).components
    let logits = results[0].value.doubles
    let predictions = results[1].value.integers
    let reference = try Npz.read(expected)[0].value.doubles
    let correct = zip(predictions, labels).filter { $0 == $1 }.count
    let difference = zip(logits, reference).map { abs($0 - $1) / max(1, abs($1)) }.max() ?? 0
    draw(images, labels, predictions, [0, 1, 2, 3, 4, 5, 6])
    print(
      "accuracy \(correct) of \(labels.count) (\((1000 * Double(correct) / Double(labels.count)).rounded() / 10) %)"
    )
    print("largest difference from PyTorch's logits \(difference) (relative to at least 1)")
    print("time for all images \(Double(elapsed.attoseconds / 1_000_000_000) / 1e6) ms")
  }

  /// A few digits side by side in shades of the terminal.
  private static func draw(
    _ images: Tensor, _ labels: [Int64], _ predictions: [Int64], _ chosen: [Int]
  ) {
    let pixels = images.doubles
    let shades = [" ", "░", "▒", "▓", "█"]
    for row in 0..<8 {
      var line = ""
      for index in chosen {
        for column in 0..<8 {
          let value = pixels[index * 64 + row * 8 + column]
          let shade = shades[min(4, Int(value * 4.99))]
          line += shade + shade
        }
        line += "  "
      }
      print(line)
    }
    print(chosen.map { "  is \(labels[$0]), seen as \(predictions[$0])" }.joined())
  }
}
