import DLCFormats
import DLCGraph
import DLCTensor
import DLCTraining
import DLCZoo
import Foundation
import Testing

/// Every family's recipe, for a few steps: the losses are those that were recorded, whatever the machine.
/// `DLC_RECORD=1 swift test --filter FamilyTraining` records them.
@Suite struct FamilyTrainingTests {
  static let fixture = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../Fixtures/family_losses.json").standardized

  static let recorded: [String: [String: [Double]]] = {
    guard let data = try? Data(contentsOf: fixture) else { return [:] }
    return (try? JSONDecoder().decode([String: [String: [Double]]].self, from: data)) ?? [:]
  }()

  /// Real digits, and images and characters made of formulas.
  static func data(_ set: String) throws -> [String: Tensor] {
    switch set {
    case "digits":
      let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../Graphs/digits.npz").standardized.path
      let arrays = Dictionary(uniqueKeysWithValues: try Npz.read(path).map { ($0.name, $0.value) })
      let levels = arrays["x"]!.scalars(Float.self)
      return ["x": Tensor([200, 64], levels[..<12800].map { $0 / 16 })]
    case "fashion":
      let pixels = (0..<48 * 784).map { index -> Float in
        let (image, place) = (index / 784, index % 784)
        let (row, column) = (place / 28, place % 28)
        let level: Int = row * (image % 5 + 1) + column * (image % 3 + 1)
        return Float(level % 17) / 16
      }
      let labels: [Int32] = (0..<48).map { Int32($0 % 10) }
      return ["x": Tensor([48, 784], pixels), "y": Tensor([48], labels)]
    default:
      let codes: [Int32] = (0..<48 * 64).map { Int32($0 * $0 / 7 % 29) }
      return ["x": Tensor([48, 64], codes), "y": Tensor([48, 64], codes.dropFirst() + [0])]
    }
  }

  @Test(arguments: Zoo.families.map(\.family)) func lossesAreTheRecorded(_ name: String) throws {
    let family = Zoo.family(name)!
    let module = try family.module()
    let step = try TrainingStep(module)
    let wanted = Set(step.inputs.map(\.name))
    let data = try Self.data(family.dataSet!).filter { wanted.contains($0.key) }
    let trainer = try Trainer(module, data: data) {
      $0.batch = name == "gmm" ? 200 : 16
      $0.epochs = name == "gmm" ? 3 : 1
      $0.stepsPerCall = 1
      $0.seed = 11
      if family.dataSet == "jargon" { $0.dimensions["V"] = 29 }
    }
    var losses: [String: [Double]] = [:]
    try trainer.run { progress in
      for (metric, value) in progress.metrics where metric.hasSuffix("loss") {
        losses[metric, default: []].append(value)
      }
      return progress.step < 3
    }
    #expect(losses.values.allSatisfy { $0.count == 3 && $0.allSatisfy(\.isFinite) })
    if ProcessInfo.processInfo.environment["DLC_RECORD"] != nil {
      return try Self.record(name, losses)
    }
    let wantedLosses = try #require(Self.recorded[name])
    #expect(Set(losses.keys) == Set(wantedLosses.keys))
    for (metric, values) in losses {
      for (got, want) in zip(values, wantedLosses[metric] ?? []) {
        #expect(abs(got - want) <= 2e-4 * max(1, abs(want)), "\(metric): \(got), recorded \(want)")
      }
    }
  }

  private static let lock = NSLock()

  private static func record(_ name: String, _ losses: [String: [Double]]) throws {
    try lock.withLock {
      var all: [String: [String: [Double]]] = [:]
      if let data = try? Data(contentsOf: fixture) {
        all = try JSONDecoder().decode([String: [String: [Double]]].self, from: data)
      }
      all[name] = losses
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
      try encoder.encode(all).write(to: fixture)
    }
  }
}
