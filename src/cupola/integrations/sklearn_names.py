"""The names of scikit-learn that a stored estimator may hold: classes and functions that loading may look up.

Classes are listed by the module that documents them, or, for the parts of fitted estimators, by the one that defines
them.
"""

from __future__ import annotations

_ESTIMATORS = {
    "sklearn.calibration": """
        CalibratedClassifierCV
    """,
    "sklearn.cluster": """
        AffinityPropagation AgglomerativeClustering Birch BisectingKMeans DBSCAN FeatureAgglomeration HDBSCAN KMeans
        MeanShift MiniBatchKMeans OPTICS SpectralBiclustering SpectralClustering SpectralCoclustering
    """,
    "sklearn.compose": """
        ColumnTransformer TransformedTargetRegressor
    """,
    "sklearn.covariance": """
        EllipticEnvelope EmpiricalCovariance GraphicalLasso GraphicalLassoCV LedoitWolf MinCovDet OAS
        ShrunkCovariance
    """,
    "sklearn.cross_decomposition": """
        CCA PLSCanonical PLSRegression PLSSVD
    """,
    "sklearn.decomposition": """
        DictionaryLearning FactorAnalysis FastICA IncrementalPCA KernelPCA LatentDirichletAllocation
        MiniBatchDictionaryLearning MiniBatchNMF MiniBatchSparsePCA NMF PCA SparseCoder SparsePCA TruncatedSVD
    """,
    "sklearn.discriminant_analysis": """
        LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis
    """,
    "sklearn.dummy": """
        DummyClassifier DummyRegressor
    """,
    "sklearn.ensemble": """
        AdaBoostClassifier AdaBoostRegressor BaggingClassifier BaggingRegressor ExtraTreesClassifier
        ExtraTreesRegressor GradientBoostingClassifier GradientBoostingRegressor HistGradientBoostingClassifier
        HistGradientBoostingRegressor IsolationForest RandomForestClassifier RandomForestRegressor
        RandomTreesEmbedding StackingClassifier StackingRegressor VotingClassifier VotingRegressor
    """,
    "sklearn.feature_extraction": """
        DictVectorizer FeatureHasher
    """,
    "sklearn.feature_extraction.image": """
        PatchExtractor
    """,
    "sklearn.feature_extraction.text": """
        CountVectorizer HashingVectorizer TfidfTransformer TfidfVectorizer
    """,
    "sklearn.feature_selection": """
        GenericUnivariateSelect RFE RFECV SelectFdr SelectFpr SelectFromModel SelectFwe SelectKBest SelectPercentile
        SequentialFeatureSelector VarianceThreshold
    """,
    "sklearn.frozen": """
        FrozenEstimator
    """,
    "sklearn.gaussian_process": """
        GaussianProcessClassifier GaussianProcessRegressor
    """,
    "sklearn.gaussian_process.kernels": """
        CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Matern PairwiseKernel Product RBF
        RationalQuadratic Sum WhiteKernel
    """,
    "sklearn.impute": """
        KNNImputer MissingIndicator SimpleImputer
    """,
    "sklearn.isotonic": """
        IsotonicRegression
    """,
    "sklearn.kernel_approximation": """
        AdditiveChi2Sampler Nystroem PolynomialCountSketch RBFSampler SkewedChi2Sampler
    """,
    "sklearn.kernel_ridge": """
        KernelRidge
    """,
    "sklearn.linear_model": """
        ARDRegression BayesianRidge ElasticNet ElasticNetCV GammaRegressor HuberRegressor Lars LarsCV Lasso LassoCV
        LassoLars LassoLarsCV LassoLarsIC LinearRegression LogisticRegression LogisticRegressionCV
        MultiTaskElasticNet MultiTaskElasticNetCV MultiTaskLasso MultiTaskLassoCV OrthogonalMatchingPursuit
        OrthogonalMatchingPursuitCV PassiveAggressiveClassifier PassiveAggressiveRegressor Perceptron
        PoissonRegressor QuantileRegressor RANSACRegressor Ridge RidgeCV RidgeClassifier RidgeClassifierCV
        SGDClassifier SGDOneClassSVM SGDRegressor TheilSenRegressor TweedieRegressor
    """,
    "sklearn.manifold": """
        ClassicalMDS Isomap LocallyLinearEmbedding MDS SpectralEmbedding TSNE
    """,
    "sklearn.mixture": """
        BayesianGaussianMixture GaussianMixture
    """,
    "sklearn.model_selection": """
        FixedThresholdClassifier GridSearchCV GroupKFold GroupShuffleSplit KFold LeaveOneGroupOut LeaveOneOut
        LeavePGroupsOut LeavePOut PredefinedSplit RandomizedSearchCV RepeatedKFold RepeatedStratifiedKFold
        ShuffleSplit StratifiedGroupKFold StratifiedKFold StratifiedShuffleSplit TimeSeriesSplit
        TunedThresholdClassifierCV
    """,
    "sklearn.multiclass": """
        OneVsOneClassifier OneVsRestClassifier OutputCodeClassifier
    """,
    "sklearn.multioutput": """
        ClassifierChain MultiOutputClassifier MultiOutputRegressor RegressorChain
    """,
    "sklearn.naive_bayes": """
        BernoulliNB CategoricalNB ComplementNB GaussianNB MultinomialNB
    """,
    "sklearn.neighbors": """
        KNeighborsClassifier KNeighborsRegressor KNeighborsTransformer KernelDensity LocalOutlierFactor
        NearestCentroid NearestNeighbors NeighborhoodComponentsAnalysis RadiusNeighborsClassifier
        RadiusNeighborsRegressor RadiusNeighborsTransformer
    """,
    "sklearn.neural_network": """
        BernoulliRBM MLPClassifier MLPRegressor
    """,
    "sklearn.pipeline": """
        FeatureUnion Pipeline
    """,
    "sklearn.preprocessing": """
        Binarizer FunctionTransformer KBinsDiscretizer KernelCenterer LabelBinarizer LabelEncoder MaxAbsScaler
        MinMaxScaler MultiLabelBinarizer Normalizer OneHotEncoder OrdinalEncoder PolynomialFeatures PowerTransformer
        QuantileTransformer RobustScaler SplineTransformer StandardScaler TargetEncoder
    """,
    "sklearn.random_projection": """
        GaussianRandomProjection SparseRandomProjection
    """,
    "sklearn.semi_supervised": """
        LabelPropagation LabelSpreading SelfTrainingClassifier
    """,
    "sklearn.svm": """
        LinearSVC LinearSVR NuSVC NuSVR OneClassSVM SVC SVR
    """,
    "sklearn.tree": """
        DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor
    """,
}

_PARTS = {
    "sklearn._loss.link": "IdentityLink LogLink LogitLink HalfLogitLink MultinomialLogit Interval",
    "sklearn._loss.loss": """
        AbsoluteError ExponentialLoss HalfBinomialLoss HalfGammaLoss HalfMultinomialLoss HalfPoissonLoss
        HalfSquaredError HalfTweedieLoss HalfTweedieLossIdentity HuberLoss PinballLoss
    """,
    "sklearn.calibration": "_CalibratedClassifier _SigmoidCalibration",
    "sklearn.cluster._bisect_k_means": "_BisectingTree",
    "sklearn.compose": "make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.binning": "_BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
    "sklearn.gaussian_process._gpc": "_BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels": "Hyperparameter",
    "sklearn.metrics._scorer": "_PassthroughScorer _Scorer _MultimetricScorer",
    "sklearn.multiclass": "_ConstantPredictor",
    "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
}

_CONSTRUCTED = {
    "sklearn._loss._loss": """
        CyAbsoluteError CyExponentialLoss CyHalfBinomialLoss CyHalfGammaLoss CyHalfMultinomialLoss CyHalfPoissonLoss
        CyHalfSquaredError CyHalfTweedieLoss CyHalfTweedieLossIdentity CyHuberLoss CyPinballLoss
    """,
    "sklearn.linear_model._sgd_fast": """
        EpsilonInsensitive Hinge Huber Log ModifiedHuber SquaredEpsilonInsensitive SquaredHinge SquaredLoss
    """,
}

_FUNCTIONS = {
    "sklearn.feature_selection": """
        chi2 f_classif f_oneway f_regression mutual_info_classif mutual_info_regression r_regression
    """,
    "sklearn.metrics": """
        accuracy_score average_precision_score balanced_accuracy_score brier_score_loss d2_absolute_error_score
        explained_variance_score f1_score jaccard_score log_loss matthews_corrcoef max_error mean_absolute_error
        mean_absolute_percentage_error mean_gamma_deviance mean_poisson_deviance mean_squared_error
        mean_squared_log_error median_absolute_error precision_score r2_score recall_score roc_auc_score
        root_mean_squared_error root_mean_squared_log_error top_k_accuracy_score
    """,
    "sklearn.impute._base": "_most_frequent",
    "sklearn.utils.validation": "check_array",
}


def _full_names(table: dict[str, str]) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for module, names in table.items() for name in names.split())


CLASSES = _full_names(_ESTIMATORS) | _full_names(_PARTS)
"""Classes whose objects are made without their constructor and given their attributes."""

CONSTRUCTED = _full_names(_CONSTRUCTED)
"""Classes of a few numbers, made by their constructor."""

FUNCTIONS = _full_names(_FUNCTIONS)
"""Functions that an estimator may refer to; loading doesn't call them."""

TREES = frozenset({"sklearn.neighbors.KDTree", "sklearn.neighbors.BallTree"})
"""Search trees, built again from their points."""

METRICS = {
    "EuclideanDistance64": "euclidean",
    "ManhattanDistance64": "manhattan",
    "ChebyshevDistance64": "chebyshev",
    "MinkowskiDistance64": "minkowski",
    "HaversineDistance64": "haversine",
}
"""Metrics of search trees: what tells them apart from each other, by the name of their class."""
