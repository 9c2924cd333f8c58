public import DLCGraph
public import DLCTensor

/// A model that the package ships.
public struct ZooModel: Sendable {
  /// The file's name below `Graphs/`, without `.pb`.
  public var name: String
  /// What it is, in one line.
  public var summary: String
  /// The data set of `Tools/data` that a family is trained on.
  public var dataSet: String?
  /// Whether its file is part of the package.
  package var isShipped = true
  package var make: @Sendable () throws(DLCError) -> Module

  /// The name without its directory: what a family is called.
  public var family: String { String(name.split(separator: "/").last ?? "") }

  /// Builds the model's graph.
  public func module(file: StaticString = #fileID, line: UInt = #line) throws(DLCError) -> Module {
    do throws(DLCError) {
      return try make()
    } catch {
      throw error.called(file, line)
    }
  }
}

/// All models that the package ships.
public enum Zoo {
  /// Model families, equations, examples and what benchmarks measure.
  public static let models: [ZooModel] =
    Digits.models + Families.models + Examples.models + Equations.models + Measurements.models

  /// Updates of weights by an optimizer alone, which are large: for measurements, and in no list.
  package static let updates = Measurements.updates

  /// The models whose files are in `Graphs/`.
  package static var shipped: [ZooModel] { models.filter(\.isShipped) }

  /// The model families, with their recipes and data.
  public static var families: [ZooModel] { models.filter { $0.dataSet != nil } }

  /// The family of that name, such as `vae`; nil when there is none.
  public static func family(_ name: String) -> ZooModel? { families.first { $0.family == name } }

  /// The model of that name, such as `models/vae`; nil when there is none.
  public static func model(_ name: String) -> ZooModel? { models.first { $0.name == name } }
}
